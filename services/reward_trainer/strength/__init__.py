"""`assay strength`: how strongly, and how surely, an ensemble agrees with each label."""
