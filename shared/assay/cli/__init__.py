"""The `assay` command: one module per subcommand, heavy imports only when it runs."""
