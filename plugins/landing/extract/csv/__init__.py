"""CSV files of any dialect to landed files."""
