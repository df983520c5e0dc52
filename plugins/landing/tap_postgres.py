"""PostgreSQL -> Singer: the MeltanoLabs tap, its full-table streams leaving by COPY from one snapshot."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from singer_sdk import Stream
from singer_sdk import typing as th
from singer_sdk.helpers.conform import TypeConformanceLevel

from landing import database, files, project, protocol, zone
from landing.deferred import deferred
from landing.errors import SettingError, SourceError, StalledError, UnreachableError, describe
from landing.snapshot import Snapshot, select
from landing.source_tables import SourceTable, catalog
from landing.workers import Workers

with deferred("paramiko"):
    from tap_postgres.client import PostgresStream
    from tap_postgres.tap import TapPostgres as StockTapPostgres

class CopyStream(protocol.LandingStream, PostgresStream):
    """A table or view; incremental ones go as RECORDs, since their bookmarks are read off the rows."""

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    @property
    def source_key(self) -> tuple[str, str]:
        """(schema, table) at the source."""
        entry = self._singer_catalog_entry
        return entry.metadata.root.schema_name, entry.table

    @cached_property
    def source_table(self) -> SourceTable:
        """The table as it is in the snapshot, which may be newer than the catalog."""
        try:
            return self._tap.snapshot.tables[self.source_key]
        except KeyError:
            raise SourceError(
                f"Table {'.'.join(self.source_key)} was there at discovery and is gone now. Nothing was committed; "
                f"run again: {self._tap.again}"
            ) from None

    @cached_property
    def table(self) -> zone.Table:
        """Its selected columns; the key is the source's, or what the catalog's metadata says in its place."""
        source = self.source_table
        columns = self.selected_columns(source.columns)
        names = {column.name for column in columns}
        key = [name for name in self.primary_keys or source.primary_key if name in names]
        foreign_keys = [one for one in source.foreign_keys if names.issuperset(one.columns)]
        return zone.Table(self.name, source.name, source.schema, columns, key, comment=source.comment,
                          foreign_keys=foreign_keys, not_of_snapshot=self._tap.snapshot.foreign(self.source_key))

    @property
    def mark(self) -> dict[str, Any]:
        return {"source": self._tap.source, "replication_method": self.replication_method}

    @property
    def bookmark(self) -> str | None:
        """The column whose last value limits what is read; none where the whole table is."""
        return self.replication_key if self.replication_method == "INCREMENTAL" else None

    def get_batch_config(self, config: Any) -> Any:
        return super().get_batch_config(config) if self.replication_method == "FULL_TABLE" else None

    def query(self, piece: sql.Composable | None = None) -> sql.Composed:
        """What is read, or a piece of it, with the MeltanoLabs settings that narrow it."""
        query = select(self.table.columns, self.source_key)
        clauses = self.config.get("stream_options", {}).get(self.name, {}).get("custom_where_clauses", [])
        conditions = [sql.SQL("({})").format(sql.SQL(clause.strip())) for clause in clauses]
        if piece:
            conditions.insert(0, piece)
        start = self.get_starting_replication_key_value(None) if self.bookmark else None
        if start is not None:
            conditions.append(sql.SQL("{} >= {}").format(sql.Identifier(self.bookmark), sql.Literal(start)))
        if conditions:
            query += sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions)
        if self.bookmark:
            query += sql.SQL(" ORDER BY {} NULLS FIRST").format(sql.Identifier(self.bookmark))
        if self.limit:
            query += sql.SQL(" LIMIT {}").format(sql.Literal(self.limit))
        return query

    @property
    def limit(self) -> int | None:
        """Rows that are enough, if somebody said so."""
        limits = [self.max_record_count(), self.ABORT_AT_RECORD_COUNT and self.ABORT_AT_RECORD_COUNT + 1]
        return min(filter(None, limits), default=None)

    @property
    def whole(self) -> bool:
        """Whether all rows and columns are read."""
        narrowed = self.config.get("stream_options", {}).get(self.name, {}).get("custom_where_clauses")
        return not (self.limit or narrowed) and len(self.table.columns) == len(self.source_table.columns)

    def start(self, folder: Path) -> None:
        """Have the table copied into files, by whichever connection is free; extract() waits for them."""
        what = ".".join(self.source_key)
        snapshot, suffix = self._tap.snapshot, files.SUFFIXES[self.config["compression"]]
        pieces = [None] if self.limit or self.bookmark else snapshot.pieces(self.source_key)
        self._progress = database.Progress(self.logger, what, rows=self.source_table.estimated_rows)
        self._copies = []
        for number, piece in enumerate(pieces):
            path = folder / f"{zone.folder_name(self.name)}-{number:04}{suffix}"
            work = functools.partial(self._copy, query=self.query(piece), path=path)
            self._copies.append((path, self._tap.workers.submit(work)))

    def _copy(self, worker: Any, query: sql.Composable, path: Path) -> zone.File:
        """COPY to a file, hashed on its way."""
        try:
            copied = self._tap.snapshot.read(worker, query, path, self._progress)
        except psycopg2.Error as error:
            raise SourceError(
                f"Table {'.'.join(self.source_key)} could not be read to its end: {describe(error)}. Nothing of this "
                f"date was committed; run again: {self._tap.again}"
            ) from error
        return zone.File.at(path, copied.rows, copied.bytes, copied.sha256)

    def extract(self, folder: Path) -> protocol.Extract:
        """The files, once they are there."""
        for column in self.table.columns:
            if column.source_type:
                self.logger.info("%s.%s: %s lands as %s", ".".join(self.source_key), column.name, column.source_type,
                                 column.type)
        if self.table.not_of_snapshot:
            self.logger.warning("%s reads foreign tables (%s): those rows are not of the snapshot's moment, and the "
                                "manifest records it.", ".".join(self.source_key),
                                ", ".join(self.table.not_of_snapshot))
        self._tap.start(self, folder)
        landed = [self._tap.workers.result(copy) for _, copy in self._copies]
        table = replace(self.table, files=landed)
        self._progress.done(table.rows)
        return protocol.Extract(table, [path for path, _ in self._copies])


class TapPostgres(protocol.LandingTap, StockTapPostgres):
    """Singer tap for PostgreSQL, from one snapshot, by COPY."""

    package_name = "landing"
    config_jsonschema = {
        **StockTapPostgres.config_jsonschema,
        "properties": {
            **StockTapPostgres.config_jsonschema["properties"],
            **th.PropertiesList(
                protocol.SOURCE, protocol.LANDING_ROOT, protocol.USE_BATCH, protocol.CONNECTIONS, protocol.COMPRESSION,
                protocol.STALL_TIMEOUT,
                protocol.DISK_HEADROOM,
            ).to_dict()["properties"],
        },
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.date = project.run_date("DATESTAMP")  # first of all: a bad date is refused before anything is read
        self._started: set[CopyStream] = set()
        config = database.with_certificate_authority(kwargs["config"], "SOURCE_POSTGRES_SSLROOTCERT")
        super().__init__(*args, **{**kwargs, "config": config})

    @property
    def source(self) -> str:
        """Name of this source."""
        return project.source_name(self.config.get("source"), project.stock_source("postgres"))

    @property
    def landing_zone(self) -> zone.LandingZone:
        return zone.LandingZone(project.landing_root(self.config.get("landing_root")))

    @property
    def dsn(self) -> str:
        """What libpq needs to get in, through the SSH tunnel where there is one."""
        _ = self.connector  # opens the tunnel, and sets the parameters
        return self.connection_parameters.render_as_psycopg2_dsn()

    @property
    def schemas(self) -> list[str]:
        """Those of `filter_schemas`; none: all but PostgreSQL's own."""
        return self.config.get("filter_schemas") or []

    @cached_property
    def snapshot(self) -> Snapshot:
        """Taken once, when the first stream needs it."""
        wanted = [stream.source_key for stream in self.streams.values() if stream.selected]
        try:
            return Snapshot(self.dsn, self.schemas, wanted, self.config["connections"], self.config["stall_timeout"])
        except SourceError as error:
            raise SourceError(f"{str(error).rstrip('.')}: {self.again}") from error

    @cached_property
    def workers(self) -> Workers:
        """The connections that copy."""
        return Workers(self.config["connections"], self.snapshot.worker, [self.snapshot.connection])

    def start(self, stream: CopyStream, folder: Path) -> None:
        """Begin with a table; where they go as files, with all tables at once, the largest first."""
        if stream in self._started:
            return
        batches = [other for other in self.streams.values() if other.selected and other.get_batch_config(self.config)]
        streams = batches if stream in batches else [stream]
        if streams is batches:
            self.require_room(self.snapshot.expected_bytes([one.source_key for one in streams if one.whole]))
        self._started.update(streams)
        for one in sorted(streams, key=lambda one: -self.snapshot.pages(one.source_key)):
            one.start(folder)

    @property
    def catalog_dict(self) -> dict[str, Any]:
        """The given catalog, else every table and view with its exact types."""
        if self.input_catalog:
            return self.input_catalog.to_dict()
        if not self._catalog_dict:
            connection = database.connect(self.dsn, "tap-postgres", self.config["stall_timeout"])
            self._catalog_dict = catalog(connection, self.schemas)
            connection.close()
        return self._catalog_dict

    def discover_streams(self) -> Sequence[Stream]:
        """One stream a table."""
        for entry in self.catalog_dict["streams"]:
            if entry.get("replication_method") == "LOG_BASED":
                raise SettingError(
                    f"{entry['tap_stream_id']}: LOG_BASED gives changes, and a landed date is a snapshot. Use "
                    "FULL_TABLE here, or the stock meltanolabs-tap-postgres."
                )
        return [CopyStream(self, entry, connector=self.connector) for entry in self.catalog_dict["streams"]]

    def sync_all(self) -> None:
        """Sync all streams, unless the date is one that stays as it is."""
        if self.config.get("use_batch", True):
            self.keep_if_frozen()
        try:
            super().sync_all()
        except (UnreachableError, StalledError) as error:
            raise type(error)(f"{error} Nothing of {self.date} was committed; then run: {self.again}") from error
        except psycopg2.Error as error:
            raise SourceError(f"The source ended the extract of {self.date}: {describe(error)}. Nothing of this date "
                              f"was committed; run again: {self.again}") from error
        with contextlib.suppress(psycopg2.Error):  # all was sent and proved
            self.cease()

    def cease(self) -> None:
        """End all connections."""
        if "workers" in self.__dict__:
            self.workers.close()
        if "snapshot" in self.__dict__:
            self.snapshot.close()

    def closing(self) -> dict[str, Any]:
        """When, and from which snapshot, this was taken."""
        if "snapshot" not in self.__dict__:  # nothing was read
            return self.landed_closing({})
        self.snapshot.confirm()
        available = {table.stream: [column.name for column in table.columns] for table in self.snapshot.tables.values()}
        return {**self.landed_closing(available), "taken_at": self.snapshot.taken_at.isoformat(),
                "snapshot": self.snapshot.info}


def main() -> None:
    """Entry point."""
    protocol.run(TapPostgres)
