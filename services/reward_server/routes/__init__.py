"""The native REST API, one module per resource: parse, call the scoring path, format."""
