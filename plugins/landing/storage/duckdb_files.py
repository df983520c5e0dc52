"""Objects as files that DuckDB reads: streams, from their start to their end, without a copy."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import duckdb
from fsspec import AbstractFileSystem

from landing.core.errors import DamagedError
from landing.storage import hashing
from landing.storage.base import Object
from landing.storage.hashing import BUFFER, HashedFile

# Memory for DuckDB and the longest line, in bytes; the next where a file's rows need more.
LANDED_LIMITS = ((64 << 20, 2 << 20), (512 << 20, 32 << 20), (6 << 30, 1 << 30))
TOO_LONG = "Maximum line size"


class ObjectFiles(AbstractFileSystem):
    """Files of one connection, by the names that add() gives them.

    Attributes:
        failed: The first object that could not be read, and why: DuckDB's own error does not have it.
    """

    protocol = "landing"
    cachable = False

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__()
        self.failed: tuple[Object, OSError | DamagedError] | None = None
        self._objects: dict[str, tuple[Object, int]] = {}
        self._connection = connection
        connection.register_filesystem(self)

    def add(self, file: Object, size: int) -> str:
        """The name for a file of so many bytes."""
        name = f"{self.protocol}://{len(self._objects)}.csv"
        self._objects[name] = file, size
        return name

    def release(self) -> None:
        """Let go of the connection."""
        self._connection.unregister_filesystem(self.protocol)

    def opened(self, path: str) -> io.RawIOBase:
        """An object, opened to read from its start."""
        return self._objects[path][0].open()

    def glob(self, path: str, **_: Any) -> list[str]:
        return [path]

    def info(self, path: str, **_: Any) -> Mapping[str, Any]:
        return {"name": path, "size": self._objects[path][1], "type": "file"}

    def open(self, path: str, mode: str = "rb", **_: Any) -> _Reading:
        return _Reading(self, path, self._objects[path][0])


class _Reading(io.RawIOBase):
    """One file, read from its start; a step back starts over."""

    def __init__(self, files: ObjectFiles, path: str, file: Object) -> None:
        self._files, self._path, self._file = files, path, file
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
                self._stored = io.BufferedReader(self._files.opened(self._path), BUFFER)
            found = self._stored.read(size)
        except (OSError, DamagedError) as error:
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


class LandedFiles(ObjectFiles):
    """Landed files by their content, decompressed and hashed as it is read."""

    protocol = "landed"

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(connection)
        self._read: dict[str, HashedFile] = {}

    def opened(self, path: str) -> io.RawIOBase:
        self._read[path] = hashing.read(self._objects[path][0])
        return _Whole(self._read[path])

    def require(self, name: str, sha256: str) -> None:
        """Raise DamagedError if the content of a file that was read is not what was landed."""
        self._require(name, self._read[name].sha256, sha256)

    def require_stored(self, name: str, sha256: str) -> None:
        """As require(), for a file whose rows DuckDB could not read: damage may be why."""
        self._require(name, hashing.sha256(self._objects[name][0]), sha256)

    def _require(self, name: str, found: str, sha256: str) -> None:
        if found != sha256:
            raise DamagedError(f"{self._objects[name][0]}: expected SHA-256 {sha256}, found {found}")


class _Whole(io.RawIOBase):
    """A file that is read to its end before it is closed: DuckDB stops where its size says."""

    def __init__(self, file: HashedFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            buffer = bytearray(BUFFER)
            with self._file:
                while self._file.readinto(buffer):
                    pass
        super().close()


def landed_rows(name: str, columns: int, longest: int) -> str:
    """DuckDB's expression for the rows of a file in our dialect: texts c0, c1, …, of lines up to `longest` bytes."""
    types = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(columns))
    return (f"read_csv('{name}', columns={{{types}}}, auto_detect=false, header=true, delim=',', quote='\"', "
            "escape='\"', nullstr='', allow_quoted_nulls=false, null_padding=false, strict_mode=true, comment='', "
            "compression='none', hive_partitioning=false, parallel=false, "
            f"max_line_size={longest}, buffer_size={2 * longest})")
