"""Removing channels: groups that must be cut together, their importance, and the cut itself."""
