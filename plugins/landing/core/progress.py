"""Progress of a transfer of landed rows, logged every few seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

PROGRESS_FIRST = 2.0  # seconds until the first line
PROGRESS_EVERY = 5.0  # seconds between lines
SAMPLED = 8
OTHERS = bytes(byte for byte in range(256) if byte not in b'"\n')


class RowCounter:
    """Counts the rows of one file in the landing zone's dialect, chunk by chunk.

    A line feed ends a row unless it is inside of quotes, which may have been opened in an earlier chunk. Of a large
    file with quotes, only one chunk in SAMPLED is counted, and the others are estimated by it: counting costs CPU.
    """

    def __init__(self) -> None:
        self._quoted = False
        self._chunks = 0
        self._density = 0.0  # rows per byte
        self._header = 1

    def count(self, chunk: bytes) -> int:
        """The number of rows that end in this chunk, the header not included."""
        self._chunks += 1
        if b'"' not in chunk:
            rows = 0 if self._quoted else chunk.count(b"\n")
        elif self._chunks > SAMPLED and self._chunks % SAMPLED:
            self._quoted ^= chunk.count(b'"') % 2 == 1
            return round(len(chunk) * self._density)
        else:
            rows = self._counted(chunk)
            self._density = rows / len(chunk)
        header = min(self._header, rows)
        self._header -= header
        return rows - header

    def _counted(self, chunk: bytes) -> int:
        marks = b'"' * self._quoted + chunk.translate(None, OTHERS)
        parts = marks.replace(b'""', b"").split(b'"')  # without values on one line, and escaped quotes
        self._quoted = len(parts) % 2 == 0
        return sum(part.count(b"\n") for part in parts[::2])


class Progress:
    """Logs a table's rows, bytes, rate, share done and time left. Thread-safe.

    Its time begins with its first byte or stream: waiting for a connection is not the table's own time.
    """

    def __init__(self, logger: logging.Logger, what: str, *, rows: int | None = None, size: int | None = None) -> None:
        """Args:
        logger: Where to log.
        what: The table's name.
        rows: Expected number of rows, if a good estimate exists.
        size: Expected bytes, if known.
        """
        self.logger, self.what, self.expected_rows, self.expected_bytes = logger, what, rows, size
        self.lock = threading.Lock()
        self.started: float | None = None
        self.ended = self.due = 0.0
        self.open = 0  # streams
        self.rows = self.bytes = 0
        self._only: Callable[[bytes | memoryview], None] | None = None

    def stream(self) -> Callable[[bytes | memoryview], None]:
        """Start the clock. Returns what is to be called with each chunk of one of the table's files."""
        self.start()
        counter = RowCounter()
        return lambda chunk: self.add(counter.count(bytes(chunk)), len(chunk))

    def start(self) -> None:
        """Start a stream, and with the first one the clock."""
        with self.lock:
            self.open += 1
            if self.started is None:
                self.started = self.ended = time.monotonic()
                self.due = self.started + PROGRESS_FIRST

    def add(self, rows: int, size: int) -> None:
        """Count what passed through one of the streams."""
        with self.lock:
            self.rows += rows
            self.bytes += size
            self.ended = time.monotonic()
        self.report()

    def advance(self, chunk: bytes | memoryview) -> None:
        """Count a chunk of a table that has one file."""
        if self._only is None:
            self._only = self.stream()
        self._only(chunk)

    def close(self) -> None:
        """End a stream."""
        with self.lock:
            self.open -= 1

    def report(self) -> None:
        """Log if a line is due."""
        with self.lock:
            if not self.open or time.monotonic() < self.due:
                return
            self.due = time.monotonic() + PROGRESS_EVERY
        self.logger.info("%s", str(self))

    def done(self, rows: int) -> None:
        """Log the final numbers."""
        seconds = self.ended - (self.started or self.ended)
        self.logger.info("%s: %s rows, %s bytes in %.2f s", self.what, f"{rows:,}", f"{self.bytes:,}", seconds)

    def __str__(self) -> str:
        seconds = max(time.monotonic() - (self.started or time.monotonic()), 0.001)
        if not self.rows:
            return f"{self.what}: no rows yet after {seconds:.0f} s"
        return (f"{self.what}: {self.rows:,} rows, {self.bytes / 1e6:,.1f} MB, "
                f"{self.rows / seconds:,.0f} rows/s, {self.bytes / 1e6 / seconds:,.1f} MB/s{self._outlook(seconds)}")

    def _outlook(self, seconds: float) -> str:
        """Share done and time left; nothing if the total is unknown, or was exceeded and so is wrong."""
        if self.expected_bytes:
            about, share = "", self.bytes / self.expected_bytes
        elif self.expected_rows:
            about, share = "about ", self.rows / self.expected_rows
        else:
            return ""
        if share > 1 or not share:
            return ""
        return f", {about}{share:.0%} done, {about}{seconds / share - seconds:,.0f} s left"
