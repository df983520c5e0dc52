"""PostgreSQL tables and views to landed files, all from one snapshot."""
