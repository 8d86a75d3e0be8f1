"""The smallest model within an allowed drop."""
