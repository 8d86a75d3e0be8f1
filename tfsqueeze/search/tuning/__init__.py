"""Hyper-parameters of whatever a function trains and scores."""
