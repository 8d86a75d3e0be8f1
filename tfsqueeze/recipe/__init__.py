"""Recipes: ordered steps of compression, kept as data and run one after the other."""
