"""A table or view of PostgreSQL as a Singer stream, extracted by COPY."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from functools import cached_property
from typing import Any, TypeVar

import msgspec
import psycopg2
from psycopg2 import errors as pg_errors
from psycopg2 import sql
from singer_sdk.helpers.conform import TypeConformanceLevel

from landing.core.errors import SettingError, SourceError, describe
from landing.core.progress import Progress
from landing.extract.postgres.catalog import SourceTable
from landing.extract.postgres.incremental import Counted, IncrementalRead
from landing.extract.postgres.keys import refusal
from landing.extract.postgres.locks import passes
from landing.extract.postgres.protected import marked, safe_description
from landing.extract.postgres.snapshot import select, way_out
from landing.model.naming import folder_name
from landing.model.schema import Column, File, Table
from landing.protection.columns import TableProtection, require_columns
from landing.protection.marks import Marks
from landing.singer.metadata import StreamMetadata
from landing.singer.sdk import CatalogStream
from landing.singer.stream import Extract, LandingStream
from landing.storage.base import Object, Prefix
from landing.storage.compression import SUFFIXES

REPORT_EVERY = 1.0  # seconds: a query that returns nothing for long has nobody else to report it
T = TypeVar("T")
logger = logging.getLogger(__name__)


class CopyStream(LandingStream, CatalogStream):
    """A table or view.

    To the Singer SDK all are FULL_TABLE: what an incremental one begins with is in the manifest, not in Singer's state.
    """

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    cursor_column: str | None = None  # the replication key

    @property
    def replication_key(self) -> str | None:
        """None: rows have no bookmark."""
        return None

    @replication_key.setter
    def replication_key(self, value: str | None) -> None:
        self.cursor_column = value

    @property
    def replication_method(self) -> str:
        return "FULL_TABLE"

    @property
    def source_key(self) -> tuple[str, str]:
        """(schema, table) at the source."""
        return self.metadata.root.schema_name, self.entry.table

    @property
    def chosen(self) -> bool:
        """Whether the catalog selects it."""
        return super().selected

    @property
    def selected(self) -> bool:
        """Whether it is extracted; a relation that holds no data by nature is not."""
        return self.chosen and self.source_key not in self.tap.snapshot.left_out

    @selected.setter
    def selected(self, value: bool | None) -> None:
        CatalogStream.selected.fset(self, value)

    @cached_property
    def source_table(self) -> SourceTable:
        """The table as of the snapshot, which may be newer than the catalog."""
        try:
            return self.tap.snapshot.tables[self.source_key]
        except KeyError:
            raise SourceError(
                f"Table {'.'.join(self.source_key)} existed at discovery and no longer exists. Nothing was committed. "
                f"Run again: {self.tap.retry_command}"
            ) from None

    @cached_property
    def table(self) -> Table:
        """The table with its selected columns; the key is the catalog's, else the source's."""
        source, columns, dropped = self.source_table, self.source_columns, []
        if self.protection:
            columns, dropped = self.protection.landed(columns), self.protection.dropped(columns)
        require_columns(".".join(self.source_key), columns)
        names = {column.name for column in columns}
        declared = source.primary_key if source.primary_key != source.own_key else self.primary_keys
        key = [name for name in declared or source.primary_key if name in names]
        foreign_keys = [one for one in source.foreign_keys if names.issuperset(one.columns)]
        return Table(stream=self.name, name=source.name, schema=source.schema, columns=columns, primary_key=key,
                     comment=source.comment, foreign_keys=foreign_keys,
                     not_of_snapshot=self.tap.snapshot.foreign(self.source_key), dropped=dropped)

    @property
    def source_columns(self) -> list[Column]:
        """The selected columns as they are at the source."""
        return self.selected_columns(self.source_table.columns)

    @property
    def protection(self) -> TableProtection | None:
        """How its columns are protected, if some are. Raises SettingError for a replication key: manifests have it."""
        protection = self.tap.protections.get(self.source_key)
        if protection and self.wants_increments and self.cursor_column in protection.methods:
            raise SettingError(f"protect: {'.'.join(self.source_key)}.{self.cursor_column} is the replication key of "
                               "an incremental stream, whose values are kept in plain. Protect it by `plain`, or use "
                               "another replication key. Nothing was extracted.")
        return protection

    @property
    def stream_metadata(self) -> StreamMetadata:
        return msgspec.structs.replace(super().stream_metadata, source=self.tap.source, lands=self.tap.date)

    @cached_property
    def incremental(self) -> IncrementalRead | None:
        """How only what changed is read, if that is wanted."""
        return IncrementalRead(self) if self.wants_increments else None

    @property
    def wants_increments(self) -> bool:
        """Whether its replication method is INCREMENTAL."""
        return self.forced_replication_method == "INCREMENTAL"

    def query(self, *more: sql.Composable | None, marks: Marks | None = None) -> sql.Composed:
        """The query for the rows, or for those that satisfy more conditions; MeltanoLabs settings may restrict it.

        `marks`: of protected columns; without it the query has all selected columns in plain.
        """
        columns = self.source_columns
        query = select(columns, self.source_key, marks and marked(self.protection.kept(columns), marks))
        if conditions := [*filter(None, more), *self.conditions]:
            query += sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions)
        if self.limit:
            query += sql.SQL(" LIMIT {}").format(sql.Literal(self.limit))
        return query

    @property
    def limit(self) -> int | None:
        """Row limit, if configured."""
        limits = [self.config.get("max_record_count"), self.ABORT_AT_RECORD_COUNT and self.ABORT_AT_RECORD_COUNT + 1]
        return min(filter(None, limits), default=None)

    @property
    def whole(self) -> bool:
        """Whether all rows and columns are read."""
        return self.all_rows and len(self.table.columns) == len(self.source_table.columns)

    @property
    def all_rows(self) -> bool:
        """Whether all rows are read."""
        return not (self.limit or self.where or (self.incremental and self.incremental.base))

    @property
    def conditions(self) -> list[sql.Composable]:
        """`where`, as SQL."""
        return [sql.SQL("({})").format(sql.SQL(clause.strip())) for clause in self.where]

    @property
    def where(self) -> list[str]:
        """Conditions on rows, if configured."""
        return self.config.get("stream_options", {}).get(self.name, {}).get("custom_where_clauses", [])

    def start(self, folder: Prefix) -> None:
        """Submit a COPY of each chunk to the worker pool; extract() waits for them."""
        self._submit(folder)
        self._count = self.tap.workers.submit(self._counted) if self.incremental else None
        self._key_check = self.tap.workers.submit(self._check_key) if self._declares_key else None

    def _submit(self, folder: Prefix) -> None:
        snapshot, suffix = self.tap.snapshot, SUFFIXES[self.config["compression"]]
        chunks = [None] if self.limit else snapshot.chunks(self.source_key)
        rows = snapshot.expected_rows(self.source_key) if self.all_rows else None
        changed = self.incremental.condition if self.incremental else None
        self.progress = Progress(logger, ".".join(self.source_key), rows=rows)
        marks = self.protection and self.protection.marks(self.table.columns)
        self._copies = []
        for number, chunk in enumerate(chunks):
            target = folder.file(folder_name(self.name), suffix, number if len(chunks) > 1 else None)
            task = functools.partial(self._copy, query=self.query(chunk, changed, marks=marks), target=target,
                                     marks=marks)
            self._copies.append((target, self.tap.workers.submit(task)))

    @property
    def _declares_key(self) -> bool:
        """Whether the key is a person's and not the source's."""
        return bool(self.table.primary_key) and self.table.primary_key != self.source_table.own_key

    def _check_key(self, worker: Any) -> None:
        """Raise SourceError if the declared key does not hold."""
        key = self.table.primary_key
        with self._explained():
            why = self.tap.snapshot.key_problem(worker, self.source_key, self.query(), key)
        if why:
            raise SourceError(f"{refusal(self.source_key, key, why)}. Nothing of this date was committed. Then run: "
                              f"{self.tap.retry_command}")

    def _copy(self, worker: Any, query: sql.Composable, target: Object, marks: Marks | None) -> File:
        """COPY to a file."""
        with self._explained():
            copied = self.tap.snapshot.read(worker, query, target, self.progress, marks)
        return File.at(target, copied.rows, copied.bytes, copied.sha256)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Name the table, and what to do: an error that stays is not solved by running again."""
        try:
            yield
        except psycopg2.Error as error:
            mend = "Correct it at the source"
            if isinstance(error, pg_errors.InsufficientPrivilege):
                mend = "Grant the role what it lacks (BYPASSRLS, if row-level security is named)"
            then = "Run again" if passes(error) else f"{mend}, or leave it out: {way_out([self.source_key])}. Then run"
            why = safe_description(error) if self.tap.protections else describe(error)
            raise SourceError(
                f"Table {'.'.join(self.source_key)} could not be read completely: {why}. Nothing of this "
                f"date was committed. {then}: {self.tap.retry_command}"
            ) from (None if self.tap.protections else error)

    def extract(self, folder: Prefix) -> Extract:
        """Wait for the table's files."""
        for column in self.table.columns:
            if column.source_type:
                logger.info("%s.%s: %s is landed as %s", ".".join(self.source_key), column.name, column.source_type,
                            column.type)
        if self.table.not_of_snapshot:
            logger.warning("%s reads foreign tables (%s), whose rows are not part of the snapshot. The manifest "
                           "records it.", ".".join(self.source_key), ", ".join(self.table.not_of_snapshot))
        self.tap.start(self, folder)
        landed, found = self._landed(), {}
        if self._key_check:
            self._result(self._key_check)
        if self.incremental:
            landed, found = self._checked(landed, folder)
        table = msgspec.structs.replace(self.table, files=[file for _, file in landed], **found)
        self.progress.done(table.rows)
        return Extract(table, [target for target, _ in landed])

    def _result(self, future: Future[T]) -> T:
        return self.tap.workers.result(future, REPORT_EVERY, self.tap.report)

    def _landed(self) -> list[tuple[Object, File]]:
        return [(target, self._result(copy)) for target, copy in self._copies]

    def _counted(self, worker: Any) -> Counted:
        with self._explained():
            return self.incremental.count(worker)

    def _checked(self, landed: list[tuple[Object, File]], folder: Prefix) -> tuple[
            list[tuple[Object, File]], dict[str, Any]]:
        """What changed, or the whole table if that is not all; and what the manifest says of it."""
        read, counted = self.incremental, self._result(self._count)
        if read.base and (why := read.problem(landed, counted)):
            read.give_up(why)
            for target, _ in landed:
                target.delete()
            self._submit(folder)
            landed = self._landed()
        read.log()
        return landed, read.entry(counted)
