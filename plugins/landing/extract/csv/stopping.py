"""Ends conversions that others are to give up."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Stop:
    """Has conversions give up: they raise CancelledError, or DuckDB's error, soon after ask()."""

    def __init__(self) -> None:
        self._asked = False
        self._connections: list[DuckDBPyConnection] = []
        self._lock = threading.Lock()

    def ask(self) -> None:
        """May be repeated: a statement that begins just now may not be interrupted."""
        with self._lock:
            self._asked = True
            for connection in self._connections:
                connection.interrupt()

    @contextlib.contextmanager
    def watching(self, connection: DuckDBPyConnection) -> Iterator[None]:
        """Interrupt the connection's statements. It must not be closed within this context."""
        with self._lock:
            self._connections.append(connection)
        try:
            yield
        finally:
            with self._lock:
                self._connections.remove(connection)

    def reading(self, file: io.RawIOBase) -> io.RawIOBase:
        """A file whose reader stops."""
        return _Reading(file, self.check)

    def check(self) -> None:
        """Raise CancelledError if it was asked to stop."""
        if self._asked:
            raise CancelledError


class _Reading(io.RawIOBase):
    def __init__(self, file: io.RawIOBase, check: Callable[[], None]) -> None:
        self._file, self._check = file, check

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._check()
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
