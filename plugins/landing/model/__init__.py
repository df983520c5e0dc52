"""The manifest, tables, columns and types, the CSV dialect, names."""
