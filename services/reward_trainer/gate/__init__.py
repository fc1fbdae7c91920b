"""What a candidate must show before it may serve: rules, their evidence, and the report."""
