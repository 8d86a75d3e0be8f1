"""Weights that share values: clustering, product quantization, and the sizes and files they allow."""
