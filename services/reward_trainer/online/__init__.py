"""The online trainer: samples of the current policy and stored pairs become new versions."""
