"""Versions, where they lie, which of them serves, and how replicas move from one to the next."""
