"""Trying many settings and choosing among them: sensitivity analysis, searches within a budget."""
