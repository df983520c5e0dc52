"""Progress of a transfer, logged every few seconds."""

from __future__ import annotations

import logging
import threading
import time

PROGRESS_EVERY = 5.0  # seconds


class Progress:
    """Logs a table's rows, bytes, rate, share done and time left. Thread-safe."""

    def __init__(self, logger: logging.Logger, what: str, *, rows: int | None = None, size: int | None = None) -> None:
        """Args:
        logger: Where to log.
        what: The table's name.
        rows: Expected number of rows, if known or estimated.
        size: Expected bytes, if known.
        """
        self.logger, self.what, self.expected_rows, self.expected_bytes = logger, what, rows, size
        self.lock = threading.Lock()
        self.started = self.logged = time.monotonic()
        self.rows = self.bytes = 0

    def advance(self, chunk: bytes | memoryview) -> None:
        """Count a chunk. Rows are estimated by line feeds; COPY reports their exact number at the end."""
        rows = bytes(chunk).count(b"\n")
        with self.lock:
            self.rows += rows
            self.bytes += len(chunk)
            if time.monotonic() - self.logged < PROGRESS_EVERY:
                return
            self.logged = time.monotonic()
        self.logger.info("%s", self)

    def done(self, rows: int) -> None:
        """Log the final numbers."""
        seconds = time.monotonic() - self.started
        self.logger.info("%s: %s rows, %s bytes in %.2f s", self.what, f"{rows:,}", f"{self.bytes:,}", seconds)

    def __str__(self) -> str:
        seconds = max(time.monotonic() - self.started, 0.001)
        return (f"{self.what}: {self.rows:,} rows, {self.bytes / 1e6:,.1f} MB, "
                f"{self.rows / seconds:,.0f} rows/s, {self.bytes / 1e6 / seconds:,.1f} MB/s{self._outlook(seconds)}")

    def _outlook(self, seconds: float) -> str:
        """Share done and time left, if the total is known or estimated."""
        if self.expected_bytes:
            about, share = "", self.bytes / self.expected_bytes
        elif self.expected_rows and self.expected_rows > 0:
            about, share = "about ", min(self.rows / self.expected_rows, 0.99)
        else:
            return ""
        left = seconds / share - seconds if share else 0
        return f", {about}{min(share, 1):.0%} done, {about}{max(left, 0):,.0f} s left"
