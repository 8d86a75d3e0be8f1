"""Trials of a space of settings: what proposes them, what keeps them, and what runs them."""
