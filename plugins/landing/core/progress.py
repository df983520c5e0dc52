"""PostgreSQL connections and COPY, hashed as it streams.

The session is pinned so that the same row gives the same bytes on every server, and gives them in the same order.
"""

from __future__ import annotations

import logging
import threading
import time

PROGRESS_EVERY = 5.0  # seconds


class Progress:
    """Says every few seconds how far a table is: rows, bytes, rate, share done, time left. Any thread may tell it."""

    def __init__(self, logger: logging.Logger, what: str, *, rows: int | None = None, size: int | None = None) -> None:
        """`rows` or `size` (bytes): what is expected in all, where that is known or estimated."""
        self.logger, self.what, self.expected_rows, self.expected_bytes = logger, what, rows, size
        self.lock = threading.Lock()
        self.started = self.said = time.monotonic()
        self.rows = self.bytes = 0

    def advance(self, chunk: bytes | memoryview) -> None:
        """Count a chunk; line feeds stand for rows here (the exact number comes from COPY itself)."""
        rows = bytes(chunk).count(b"\n")
        with self.lock:
            self.rows += rows
            self.bytes += len(chunk)
            if time.monotonic() - self.said < PROGRESS_EVERY:
                return
            self.said = time.monotonic()
        self.logger.info("%s", self)

    def done(self, rows: int) -> None:
        """Say the exact number at the end."""
        seconds = time.monotonic() - self.started
        self.logger.info("%s: %s rows, %s bytes in %.2f s", self.what, f"{rows:,}", f"{self.bytes:,}", seconds)

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self.started, 0.001)
        return (f"{self.what}: {self.rows:,} rows, {self.bytes / 1e6:,.1f} MB, "
                f"{self.rows / seconds:,.0f} rows/s, {self.bytes / 1e6 / seconds:,.1f} MB/s{self._outlook(seconds)}")

    def _outlook(self, seconds: float) -> str:
        """Share done and time left, as far as anyone can tell."""
        if self.expected_bytes:
            about, share = "", self.bytes / self.expected_bytes
        elif self.expected_rows and self.expected_rows > 0:
            about, share = "about ", min(self.rows / self.expected_rows, 0.99)
        else:
            return ""
        left = seconds / share - seconds if share else 0
        return f", {about}{min(share, 1):.0%} done, {about}{max(left, 0):,.0f} s left"
