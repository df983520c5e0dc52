"""The `landing` command: one module for each subcommand."""
