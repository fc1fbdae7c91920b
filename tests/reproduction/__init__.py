"""Reproduction of the papers' offline results: label noise, its detection, training despite it."""
