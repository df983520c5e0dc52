"""Checksums of source, files and warehouse; preflight check; differences; backfill plan."""
