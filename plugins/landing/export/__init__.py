"""Landed dates as typed Parquet, for other engines."""
