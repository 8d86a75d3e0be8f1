"""The ground everything stands on: graph rewriting, layer knowledge, selection, schedules, data, checks."""
