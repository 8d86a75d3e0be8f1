"""What compressing each layer costs, and how to spend a budget by it."""
