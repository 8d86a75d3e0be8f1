"""Cheaper architectures: separable and low-rank layers, smaller inputs and outputs, lighter backbones."""
