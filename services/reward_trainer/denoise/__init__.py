"""`assay denoise`: what the strength of each pair says about its label, done about it."""
