"""Objects as files that DuckDB reads: streams, from their start to their end, without a copy."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import duckdb
from fsspec import AbstractFileSystem

from landing.storage.base import Object
from landing.storage.hashing import BUFFER

SCHEME = "landing"


class ObjectFiles(AbstractFileSystem):
    """Files of one connection, by the names that add() gives them.

    Attributes:
        failed: The first object that could not be read, and why: DuckDB's own error does not have it.
    """

    protocol = SCHEME
    cachable = False

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__()
        self.failed: tuple[Object, OSError] | None = None
        self._objects: dict[str, tuple[Object, int]] = {}
        self._connection = connection
        connection.register_filesystem(self)

    def add(self, file: Object, size: int) -> str:
        """The name for a file of so many bytes."""
        name = f"{SCHEME}://{len(self._objects)}.csv"
        self._objects[name] = file, size
        return name

    def release(self) -> None:
        """Let go of the connection."""
        self._connection.unregister_filesystem(SCHEME)

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path]

    def info(self, path: str, **_: Any) -> Mapping[str, Any]:
        return {"name": path, "size": self._objects[path][1], "type": "file"}

    def open(self, path: str, mode: str = "rb", **_: Any) -> _Reading:
        return _Reading(self, self._objects[path][0])


class _Reading(io.RawIOBase):
    """One file, read from its start; a step back starts over."""

    def __init__(self, files: ObjectFiles, file: Object) -> None:
        self._files, self._file = files, file
        self._stored: io.BufferedReader | None = None
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the start")
        if offset < self._at:
            self._restart()
        while self._at < offset and self.read(min(BUFFER, offset - self._at)):
            pass
        return self._at

    def read(self, size: int = -1) -> bytes:
        try:
            if self._stored is None:
                self._stored = io.BufferedReader(self._file.open(), BUFFER)
            found = self._stored.read(size)
        except OSError as error:
            self._files.failed = self._files.failed or (self._file, error)
            raise
        self._at += len(found)
        return found

    def _restart(self) -> None:
        if self._stored:
            self._stored.close()
        self._stored, self._at = None, 0

    def close(self) -> None:
        self._restart()
        super().close()
