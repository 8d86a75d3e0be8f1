"""Quantization-aware training: models that learn to compute with few bits."""
