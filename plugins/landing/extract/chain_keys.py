"""Rows whose key the chain of a table's partitions has already, found in its landed files.

Keys are equal by value, as in the warehouse: see model/equality.py. DuckDB keeps those of the new rows, reads the chain
past them, and spills to disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from landing.core.errors import SourceError
from landing.model.equality import key_types, value
from landing.model.schema import Column, File
from landing.singer.scratch import scratch
from landing.storage.base import Object
from landing.storage.duckdb_files import LANDED_LIMITS, TOO_LONG, LandedFiles, landed_rows


@dataclass(frozen=True)
class Part:
    """Landed files with the same columns."""

    columns: Sequence[Column]
    files: Sequence[tuple[Object, File]]

    def expression(self, name: str, type_: str) -> str:
        """DuckDB's expression that is equal for equal values of a column."""
        names = [column.name for column in self.columns]
        return value(type_, f"c{names.index(name)}")


def count_known(new: Part, chain: Sequence[Part], key: Sequence[str]) -> int:
    """How many rows of files that were just written have a key that the chain has.

    Raises:
        DamagedError: A file is not what was landed.
        SourceError: The keys do not fit into memory and scratch space.
    """
    types = key_types([part.columns for part in (new, *chain)], key)
    with scratch() as folder, contextlib.closing(duckdb.connect(
            config={"threads": 1, "temp_directory": folder})) as connection:
        connection.execute("SET enable_progress_bar = false")  # stdout carries the tap's messages
        fields = ", ".join(f"{new.expression(name, type_)} AS k{n}" for n, (name, type_) in enumerate(types.items()))
        for number, (place, file) in enumerate(new.files):
            into = "INSERT INTO new_keys" if number else "CREATE TABLE new_keys AS"
            _read(connection, place, file, f"{into} SELECT row_number() OVER () + {number << 48} AS number, "  # noqa: S608
                  f"{fields} FROM {{rows}}", len(new.columns))
        return find_known(connection, chain, types)


def find_known(connection: duckdb.DuckDBPyConnection, chain: Sequence[Part], types: dict[str, str],
               least: int = 0) -> int:
    """Fill the table `known` with the numbers of the rows of `new_keys` (number, k0, …) that the chain has.

    Args:
        connection: With that table.
        chain: The partitions.
        types: Of the key.
        least: Bytes of memory that the connection may use in any case.

    Returns:
        How many these are.
    """
    # The keys of the new rows are kept in memory, whatever DuckDB takes a file's rows to be.
    connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
    connection.execute("CREATE TABLE known (number BIGINT)")
    for part in chain:
        same = " AND ".join(f"{part.expression(name, type_)} = k{n}" for n, (name, type_) in enumerate(types.items()))
        for place, file in part.files:
            _read(connection, place, file, f"INSERT INTO known SELECT DISTINCT number FROM {{rows}} "  # noqa: S608
                  f"JOIN new_keys ON {same}", len(part.columns), least)
    return connection.execute("SELECT count(DISTINCT number) FROM known").fetchone()[0]


def _read(connection: duckdb.DuckDBPyConnection, place: Object, file: File, statement: str, columns: int,
          least: int = 0) -> None:
    """Execute a statement over the `{rows}` of a landed file, verified as it is read."""
    for memory, longest in LANDED_LIMITS:
        files = LandedFiles(connection)
        name = files.add(place, file.bytes)
        connection.execute(f"SET memory_limit = '{max(memory, least)}B'")
        try:
            connection.execute(statement.replace("{rows}", landed_rows(name, columns, longest)))
            files.require(name, file.sha256)
            return
        except duckdb.Error as error:
            if files.failed:
                raise files.failed[1] from None
            files.require_stored(name, file.sha256)
            if not (isinstance(error, duckdb.OutOfMemoryException) or TOO_LONG in str(error)):
                raise
            last = error
        finally:
            files.release()
    raise SourceError(f"{place}: the keys of its rows do not fit into memory and scratch space "
                      f"({str(last).partition(chr(10))[0]}). Free disk space, or set TMPDIR to a folder on a larger "
                      "disk, and run again.")
