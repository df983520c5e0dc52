"""Connections to PostgreSQL, COPY, transactions, several workers."""
