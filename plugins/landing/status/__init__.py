"""Monitoring: sources by dates, fresh or late; as facts, page and metrics."""
