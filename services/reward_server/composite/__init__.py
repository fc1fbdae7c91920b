"""Scores out of several parts: the served model, models beside it, and rules."""
