"""Forming micro-batches, remembering scores, loading the model: compute without HTTP or Ray."""
