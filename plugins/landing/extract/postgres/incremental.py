"""What changed in a table since its base, the newest earlier date; or the whole table, where that cannot be told.

A row changed if the transaction that wrote its version (`xmin`) is not older than all that the base's snapshot saw in
progress. So late commits, ties, and updates that leave the replication key as it was are read. Where row versions tell
nothing (views, foreign tables), rows are read from some time before the largest key on.

Deleted rows cannot be read. But the base's rows and the keys that are new must add up to the rows that the source
counts in the same snapshot; else the whole table is landed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from landing.core.errors import DamagedError, SettingError
from landing.extract.bases import Base, NoBaseError, find_base
from landing.extract.postgres import row_versions
from landing.extract.postgres.incremental_settings import of_table
from landing.model.increment import Cursor
from landing.model.schema import File, Protection, Table
from landing.storage.base import Object

TIMES = re.compile("date|timestamp.*")
logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from landing.extract.postgres.stream import CopyStream


@dataclass(frozen=True)
class Counted:
    """The whole table in the snapshot: its rows, its largest replication key, and whether that is below the base's."""

    rows: int
    largest: str | None
    below: bool


class IncrementalRead:
    """How one table is read: see the module.

    Attributes:
        base: What the increment stands on; None: the whole table is landed.
        full_because: Why, if so.
    """

    def __init__(self, stream: CopyStream) -> None:
        """Decide what to read. Raises SettingError if the table has no incremental form."""
        self.stream, self.table, self.name = stream, stream.table, ".".join(stream.source_key)
        self.column, self.settings = stream.cursor_column, of_table(stream.config, self.name)
        self._refuse_keyless()
        with stream.tap.snapshot.connection.cursor() as cursor:
            self.versions = row_versions.versions(cursor, stream.source_key)
        if not self.versions.tell:
            self._refuse_without_lookback()
        self.position = stream.tap.position
        self.base: Base | None = None
        self.full_because: str | None = None
        try:
            base = self._base()
            self._require_comparable(base)
            self.base = base
        except NoBaseError as error:
            self.full_because = str(error)

    # What has no incremental form

    def _refuse_keyless(self) -> None:
        columns = [column.name for column in self.stream.source_table.columns]
        if self.column not in columns:
            raise self._refusal(f"its replication key {self.column!r} is none of its columns ({', '.join(columns)}). "
                                "Correct `replication-key`")
        if not self.table.primary_key:
            raise self._refusal("it has no primary key, so a changed row could not take the place of its earlier "
                                f"version. Declare one (`keys: {{{self.name}: [...]}}`), or use FULL_TABLE")

    def _refuse_without_lookback(self) -> None:
        if not self.settings.lookback:
            raise self._refusal("it is a view or has foreign tables, whose rows do not tell when they were written. "
                                f"Declare how far back to read (`incremental: {{{self.name}: {{lookback: 15m}}}}`), "
                                "or use FULL_TABLE")
        if not TIMES.fullmatch(self._type):
            raise self._refusal(f"its replication key {self.column} has the type {self._type}, and `lookback` needs a "
                                "date or a timestamp. Use FULL_TABLE")

    def _refusal(self, why: str) -> SettingError:
        return SettingError(f"{self.name} has replication-method INCREMENTAL, but {why}. Nothing of this date was "
                            f"committed. Correct it under tap-postgres in meltano.yml, then run: "
                            f"{self.stream.tap.retry_command}")

    @property
    def _type(self) -> str:
        """Of the replication key."""
        return next(column.type for column in self.stream.source_table.columns if column.name == self.column)

    # What it stands on

    def _base(self) -> Base:
        tap = self.stream.tap
        if self.stream.mapped:
            raise NoBaseError("stream_maps change its rows")
        if self.stream.limit:
            raise NoBaseError("the number of rows is limited")
        if later := [day for _, day in tap.earlier_dates.landed(tap.source) if day > tap.date]:
            raise NoBaseError(f"{max(later)} is landed, and {tap.date} is before that")
        try:
            return find_base(tap.earlier_dates, tap.source, tap.date, self.stream.name)
        except DamagedError as error:
            raise NoBaseError(f"its base cannot be used: {error}") from None

    def _require_comparable(self, base: Base) -> None:
        """Raise NoBaseError if what changed since the base cannot be told."""
        day, before, cursor = base.last.manifest.extracted_at, base.last.table, base.last.table.cursor
        if len(base.links) >= self.settings.full_every:
            raise NoBaseError(f"{len(base.links)} dates stand on each other (full_every: {self.settings.full_every})")
        if cursor is None:
            raise NoBaseError(f"{day} was not landed by a replication key")
        for what, then, now in (
            ("replication key", cursor.column, self.column),
            ("primary key", before.primary_key, self.table.primary_key),
            ("protection, or a key of it,", *_protections(before, self.table)),
            ("columns", _columns(before), _columns(self.table)),
            ("definition", cursor.definition, self.versions.definition),
            ("conditions on rows (custom_where_clauses)", cursor.where, self.stream.where),
        ):
            if then != now:
                raise NoBaseError(f"its {what} changed since {day}")
        if why := self.position.unreachable(base.last.manifest.snapshot):
            raise NoBaseError(f"{why} ({day})")
        if self.versions.tell and not {*cursor.relations} & {*self.versions.relations}:
            raise NoBaseError(f"it was made anew since {day}")

    # What is read

    @cached_property
    def start(self) -> str | None:
        """The base's largest replication key."""
        return self.base and self.base.last.table.cursor.value

    @property
    def condition(self) -> sql.Composable | None:
        """What changed rows satisfy; None: all rows are read."""
        if self.base is None:
            return None
        key, start, last = sql.Identifier(self.column), sql.Literal(self.start), self.base.last
        if self.versions.tell:  # ties and NULLs, too: there may be many
            newer = sql.SQL("{} > {}").format(key, start)
            found = [row_versions.since(last.manifest.snapshot, last.table.cursor.relations)]
        else:
            newer = sql.SQL("{} >= {}::{} - {}::interval").format(
                key, start, sql.SQL(self._type), sql.Literal(self.settings.lookback))
            found = [sql.SQL("{} IS NULL").format(key)]
        return sql.SQL("({})").format(sql.SQL(" OR ").join([*found, *([] if self.start is None else [newer])]))

    def count(self, worker: Any) -> Counted:
        """Count the table as of the snapshot."""
        return self.stream.tap.snapshot.as_of_snapshot(worker, self._counted)

    def _counted(self, connection: Any) -> Counted:
        key, conditions = sql.Identifier(self.column), [sql.SQL("true"), *self.stream.conditions]
        rows = sql.SQL("FROM {} WHERE {}").format(sql.Identifier(*self.stream.source_key),
                                                  sql.SQL(" AND ").join(conditions))
        below = sql.SQL("false") if self.start is None else sql.SQL(
            "NOT EXISTS (SELECT {rows} AND {key} >= {start})").format(key=key, rows=rows, start=sql.Literal(self.start))
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL(
                "SELECT (SELECT count(*) {rows}), "
                "(SELECT {key}::text {rows} AND {key} IS NOT NULL ORDER BY {key} DESC LIMIT 1), {below}"
            ).format(key=key, rows=rows, below=below))
            return Counted(*cursor.fetchone())

    # Whether it is all that changed

    def problem(self, landed: Sequence[tuple[Object, File]], counted: Counted) -> str | None:
        """Why what was read is not all that changed, so that the whole table has to be landed; None if it is."""
        day = self.base.last.manifest.extracted_at
        if counted.below:
            return (f"its largest {self.column} is {counted.largest or 'NULL'} now, and was {self.start} on {day}")
        changed = sum(file.rows for _, file in landed)
        try:
            known = self._known(landed) if changed else 0
        except DamagedError as error:
            return f"its base cannot be used: {error}"
        gone = self.base.rows + changed - known - counted.rows
        if gone > 0:
            return f"{gone:,} rows were deleted at the source, or have another key, since {day}"
        return f"{-gone:,} rows at the source are neither of {day} nor changed since" if gone else None

    def _known(self, landed: Sequence[tuple[Object, File]]) -> int:
        """How many of the rows that were read have a key that the base has."""
        from landing.extract.chain_keys import Part, count_known  # here: it imports DuckDB

        chain = [Part(link.table.columns, self.base.files(link)) for link in self.base.links]
        return count_known(Part(self.table.columns, landed), chain, self.table.primary_key)

    def entry(self, counted: Counted) -> dict[str, Any]:
        """What the manifest's table says of it."""
        cursor = Cursor(self.column, counted.largest, self.versions.relations if self.versions.tell else [],
                        self.versions.definition, self.stream.where)
        increment = self.base.increment(counted.rows, self.start) if self.base else None
        return {"cursor": cursor, "increment": increment, "full_because": self.full_because}

    def log(self) -> None:
        """Log what was landed."""
        if self.base:
            logger.info("%s: rows that changed since %s.", self.name, self.base.last.manifest.extracted_at)
        else:
            logger.info("%s: the whole table, because %s.", self.name, self.full_because)

    def give_up(self, why: str) -> None:
        """Land the whole table after all."""
        self.base, self.full_because = None, why


def _columns(table: Table) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in table.columns]


def _protections(*tables: Table) -> list[list[Protection | None]]:
    """How each table protects the columns that both have."""
    found = [{column.name: column.protection for column in table.columns} for table in tables]
    return [[one[name] for name in found[0] if name in found[1]] for one in found]
