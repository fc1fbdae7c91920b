"""Offline training of an ensemble from preference pairs: `run.fit` is the way in."""
