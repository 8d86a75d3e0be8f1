"""Setting weights to zero, or removing what they make: masks, criteria, the callback, the one-shot verb."""
