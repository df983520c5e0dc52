"""One landed CSV file to one Parquet file by DuckDB: a stream from storage to storage, hashed on both sides.

DuckDB reads and writes by a file system that has these two files and nothing else. It reads from start to end once, so
nothing has to be held or spooled; its memory is what a row group and the longest row need.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
from fsspec import AbstractFileSystem

from landing.core.errors import DamagedError, ZoneError
from landing.export.mapping import Target
from landing.model.schema import File
from landing.storage import hashing
from landing.storage.base import Object
from landing.storage.duckdb_files import TOO_LONG, landed_rows
from landing.storage.hashing import BUFFER, HashedFile

# Memory for DuckDB and the longest line, in bytes; the next where a table's rows need more.
LIMITS = ((48 << 20, 2 << 20), (512 << 20, 32 << 20), (6 << 30, 1 << 30))
GROUP_BYTES, VECTOR, GROUP_ROWS = 12 << 20, 2048, 60 * 2048  # of a row group
ROWS = "{rows}"  # in a statement: the landed file


class RefusedValueError(Exception):
    """Raised if a column's type does not hold one of its values."""


@dataclass(frozen=True)
class Landed:
    """A landed file, the columns that it becomes, and who is told of each chunk that is read of it."""

    place: Object
    file: File
    columns: Sequence[Target]
    passed: Callable[[Any], None] | None = None


def convert(landed: Landed, target: Object) -> File:
    """Write a landed file's rows as Parquet.

    Raises:
        RefusedValueError: A column's type does not hold one of its values.
        DamagedError: The landed file is not what was landed.
        ZoneError: The target cannot be written, or a row is too long.
    """
    fields = ", ".join(f"{_expression(number, column)} AS {_quoted(column.name)}"
                       for number, column in enumerate(landed.columns))
    group = GROUP_BYTES * landed.file.rows // max(landed.file.bytes, 1) // VECTOR * VECTOR
    statement = (f"COPY (SELECT {fields} FROM {ROWS}) TO 'landing://out.parquet' (FORMAT parquet, COMPRESSION zstd, "  # noqa: S608
                 f"ROW_GROUP_SIZE {max(VECTOR, min(GROUP_ROWS, group))}, USE_TMP_FILE false)")
    for limits in LIMITS:
        with hashing.writing(target), hashing.create(target) as file:
            sink = _Sink(file)
            found = _query(landed, statement, limits, sink)
            sink.flush()
        if found is not None:
            _require_rows(landed, found[0])
            return File(target.name, found[0], file.size, file.sha256)
        target.delete()
    raise ZoneError(f"{landed.place} has a row of more than {LIMITS[-1][1] >> 20:,} MiB. Nothing was committed there. "
                    "Leave its table out.")


def _require_rows(landed: Landed, found: int) -> None:
    if found != landed.file.rows:
        raise DamagedError(f"{landed.place}: the manifest lists {landed.file.rows:,} rows, found {found:,}")


def refused(landed: Landed) -> set[int]:
    """Numbers of the columns with values that their types do not hold."""
    typed = [number for number, one in enumerate(landed.columns) if one.typed.expression != "{x}"]
    counts = ", ".join(f"count(*) FILTER (c{number} IS NOT NULL AND TRY({_expression(number, landed.columns[number])}) "
                       "IS NULL)" for number in typed)
    for limits in LIMITS:
        if (found := _query(landed, f"SELECT {counts or 'count(*)'} FROM {ROWS}", limits)) is not None:  # noqa: S608
            return {number for number, count in zip(typed, found, strict=bool(typed)) if count}
    return set()


def _expression(number: int, column: Target) -> str:
    return column.typed.expression.replace("{x}", f"c{number}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _query(landed: Landed, statement: str, limits: tuple[int, int], sink: _Sink | None = None) -> tuple | None:
    """The only row of a statement over the rows of a landed file; None where it needs higher limits."""
    memory, longest = limits
    config = {"memory_limit": f"{memory}B", "threads": 1, "temp_directory": ""}
    with hashing.read(landed.place, landed.passed) as file:
        source = _Source(file, landed.file.bytes)
        try:
            with contextlib.closing(duckdb.connect(config=config)) as connection:
                connection.register_filesystem(_Streams(source, sink))
                connection.execute("SET enable_progress_bar = false")
                statement = statement.replace(ROWS, landed_rows("landing://in.csv", len(landed.columns), longest))
                (found,) = connection.execute(statement).fetchall()
                connection.unregister_filesystem(_Streams.protocol)
        except duckdb.Error as error:
            if failed := source.error or (sink and sink.error):
                raise failed from None
            if isinstance(error, duckdb.OutOfMemoryException) or TOO_LONG in str(error):
                return None
            raise RefusedValueError(str(error).partition("\n")[0]) from None
        source.require(landed)
    return found


class _Streams(AbstractFileSystem):
    """A file to read from start to end, and one to write."""

    protocol = "landing"
    cachable = False

    def __init__(self, source: _Source, sink: _Sink | None) -> None:
        super().__init__()
        self._source, self._sink = source, sink

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """The one or the other."""
        return self._source if mode == "rb" else self._sink

    def glob(self, path: str, **_: Any) -> list[str]:
        """No name is a pattern."""
        return [path]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Raises FileNotFoundError for what is still to be written."""
        if path.endswith(".parquet"):
            raise FileNotFoundError(path)
        return {"name": path, "size": self._source.size, "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        """As info() has it."""
        return not path.endswith(".parquet")

    def isdir(self, path: str) -> bool:
        """There are none."""
        return False


class _Source:
    """Landed content, which DuckDB may read once, in order. `error`: what it would report as its own."""

    def __init__(self, file: HashedFile, size: int) -> None:
        self._file, self._buffered, self.size = file, io.BufferedReader(file, BUFFER), size
        self.error: Exception | None = None
        self._at = 0

    def seekable(self) -> bool:
        """True: a file that is not is kept in memory until it is read."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Only to where it is."""
        if offset != self._at or whence:
            self.error = OSError(f"seek to {offset} at {self._at} of a file that is read once")
            raise self.error
        return offset

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def read(self, count: int) -> bytes:
        """The next bytes."""
        try:
            chunk = self._buffered.read(count)
        except Exception as error:
            self.error = error
            raise
        self._at += len(chunk)
        return chunk

    def close(self) -> None:
        """DuckDB's close: what it left is still to be hashed."""

    def require(self, landed: Landed) -> None:
        """Read to the end. Raises DamagedError if the content is not what was landed."""
        while self._buffered.read(BUFFER):
            pass
        if self._file.sha256 != landed.file.sha256:
            raise DamagedError(f"{landed.place}: expected SHA-256 {landed.file.sha256}, found {self._file.sha256}")


class _Sink:
    """A file that DuckDB writes. `error`: what it would report as its own."""

    def __init__(self, file: io.RawIOBase) -> None:
        self._buffered = io.BufferedWriter(file, BUFFER)
        self.error: Exception | None = None

    def write(self, chunk: bytes) -> int:
        """The next bytes."""
        try:
            return self._buffered.write(chunk)
        except Exception as error:
            self.error = error
            raise

    def close(self) -> None:
        """DuckDB's close, also after a failure."""

    def flush(self) -> None:
        """DuckDB's, and at the end ours."""
        self._buffered.flush()
