"""A table that was landed in increments as one file with all of its rows, for readers that take no chain.

DuckDB reads the partitions from the newest to the oldest, and leaves out rows whose key a newer one has. Where keys are
equal that only PostgreSQL can compare, the rows do not add up, which is refused.
"""

from __future__ import annotations

import collections
import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
from msgspec import structs

from landing.core.errors import ZoneError
from landing.model import csv_dialect
from landing.model.equality import key_types, value
from landing.model.manifest import Manifest
from landing.model.schema import File, Table
from landing.singer.scratch import scratch
from landing.storage import hashing
from landing.storage.base import Object
from landing.storage.duckdb_files import LANDED_LIMITS, TOO_LONG, LandedFiles, landed_rows
from landing.storage.finding import local_file
from landing.storage.hashing import BUFFER
from landing.zone.chains import Link, all_columns, chain
from landing.zone.landing_zone import LandingZone

CHUNK = 2_000  # rows


@contextlib.contextmanager
def whole(zone: LandingZone, manifest: Manifest, table: Table) -> Iterator[tuple[Table, list[Object]]]:
    """A table with all of its rows, and its files: in one scratch file, if it was landed in increments.

    Raises as chain() and merge() do.
    """
    if table.increment is None:
        yield table, [zone.file(manifest, file) for file in table.files]
        return
    links = chain(zone, manifest, table)
    with scratch() as folder:
        file = merge(zone, links, place := local_file(Path(folder) / "rows.csv"), folder)
        yield structs.replace(table, columns=all_columns(links), files=[file], increment=None), [place]


def merge(zone: LandingZone, links: Sequence[Link], to: Object, folder: str) -> File:
    """Write a table.

    Args:
        zone: Where it is landed.
        links: Its chain, the whole table first.
        to: The new file.
        folder: For DuckDB's temporary files.

    Raises:
        DamagedError: A file is not what was landed.
        ZoneError: A row is too long, or the rows do not add up.
    """
    for memory, longest in LANDED_LIMITS:
        config = {"memory_limit": f"{memory}B", "threads": 1, "temp_directory": folder}
        with contextlib.closing(duckdb.connect(config=config)) as connection:
            try:
                connection.execute("SET enable_progress_bar = false")
                return _Merging(zone, links, connection, longest).write(to)
            except duckdb.Error as error:
                if not (isinstance(error, duckdb.OutOfMemoryException) or TOO_LONG in str(error)):
                    raise
                to.delete()
    raise ZoneError(f"{links[-1].table.stream} has a row of more than {longest >> 20:,} MiB, or too many keys changed. "
                    "Nothing was written. Land the whole table again.")


class _Merging:
    def __init__(self, zone: LandingZone, links: Sequence[Link], connection: duckdb.DuckDBPyConnection,
                 longest: int) -> None:
        self._zone, self._links, self._connection, self._longest = zone, links, connection, longest
        self._columns = all_columns(links)
        self._key = key_types([link.table.columns for link in links], links[-1].table.primary_key)

    def write(self, to: Object) -> File:
        rows = 0
        if self._key:
            types = ", ".join(f"{value(type_, 'c')} AS k{number}" for number, type_ in enumerate(self._key.values()))
            self._connection.execute(f"CREATE TABLE newer AS SELECT {types} FROM (SELECT NULL::VARCHAR AS c) LIMIT 0")  # noqa: S608
        with io.BufferedWriter(raw := hashing.create(to), BUFFER) as file:
            file.write(csv_dialect.header(self._columns))
            for link in reversed(self._links):
                for lines in self._lines(link):
                    file.write("".join(f"{line}\n" for line, in lines).encode())
                    rows += len(lines)
                if self._key and link is not self._links[0]:
                    keys = ", ".join(self._keys(link))
                    collections.deque(self._read(link, f"INSERT INTO newer SELECT {keys} FROM {{}}"), 0)  # noqa: S608
        last = self._links[-1]
        if rows != last.table.total_rows:
            raise ZoneError(f"{last.table.stream} of {last.manifest.extracted_at}: its files give {rows:,} rows, and "
                            f"the manifest lists {last.table.total_rows:,}. Nothing was written. Land the whole table "
                            "again.")
        return File.at(to, rows, raw.size, raw.sha256)

    def _lines(self, link: Link) -> Iterator[list[tuple]]:
        """A link's rows that no newer one replaces, as lines of the whole table."""
        positions = {column.name: number for number, column in enumerate(link.table.columns)}
        fields = [f"c{positions[column.name]}" if column.name in positions else "NULL::VARCHAR"
                  for column in self._columns]
        line = csv_dialect.sql_line(fields, alone=len(fields) == 1)
        same = " AND ".join(f"{key} = k{number}" for number, key in enumerate(self._keys(link)))
        newer = f" WHERE NOT EXISTS (SELECT 1 FROM newer WHERE {same})" if same else ""  # noqa: S608
        yield from self._read(link, f"SELECT {line} FROM {{}}{newer}")  # noqa: S608

    def _keys(self, link: Link) -> list[str]:
        """DuckDB's expressions that are equal for equal keys."""
        names = [column.name for column in link.table.columns]
        return [value(type_, f"c{names.index(name)}") for name, type_ in self._key.items()]

    def _read(self, link: Link, statement: str) -> Iterator[list[tuple]]:
        """Execute a statement over the rows of each of a link's files, which are verified as they are read."""
        for file in link.table.files:
            files = LandedFiles(self._connection)
            name = files.add(self._zone.file(link.manifest, file), file.bytes)
            rows = landed_rows(name, len(link.table.columns), self._longest)
            try:
                found = self._connection.execute(statement.replace("{}", rows))
                while chunk := found.fetchmany(CHUNK):
                    yield chunk
                files.require(name, file.sha256)
            except duckdb.Error:
                if files.failed:
                    raise files.failed[1] from None
                files.require_stored(name, file.sha256)
                raise
            finally:
                files.release()
