"""Training objectives as pure functions on tensors: formula, shapes, source."""
