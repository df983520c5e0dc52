"""PostgreSQL and CSV files to Singer messages."""
