"""Side-by-side measurements of a running server: medians and ratios of one run."""
