"""`assay evaluate`: how well reward models rank pairs, and how they score the public benchmarks."""
