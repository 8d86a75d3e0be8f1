"""Mixed precision: half-precision arithmetic on float32 weights, and the batch that then fits in memory."""
