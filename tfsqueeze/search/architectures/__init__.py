"""Architectures around a trained network, under limits of their cost."""
