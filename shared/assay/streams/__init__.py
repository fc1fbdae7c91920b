"""Redis: stored baselines and the stream of samples."""
