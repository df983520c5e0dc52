"""PostgreSQL -> Singer: the MeltanoLabs tap, its full-table streams leaving by COPY from one snapshot."""

from __future__ import annotations

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
from tap_postgres.client import PostgresStream
from tap_postgres.tap import TapPostgres as StockTapPostgres

from landing import database, project, protocol, zone
from landing.errors import SettingError, SourceError, describe
from landing.source_tables import SourceTable, catalog, describe_tables


class Snapshot:
    """One moment of the source: a repeatable-read transaction that all tables are read in."""

    def __init__(self, dsn: str, schemas: Sequence[str], wanted: Sequence[tuple[str, str]]) -> None:
        """`wanted`: (schema, table) pairs, locked against TRUNCATE and ALTER before the snapshot is taken.

        To a snapshot that is older than they are, those two leave a table empty, without an error.
        """
        self.connection = database.connect(dsn, "tap-postgres")
        kinds = {key: table.kind for key, table in describe_tables(self.connection, schemas).items()}
        lockable = [sql.Identifier(*key) for key in wanted if kinds.get(key) in ("r", "p")]
        with self.connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if lockable:
                cursor.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(lockable)))
            cursor.execute(
                "SELECT clock_timestamp(), current_setting('server_version'), current_database(), "
                "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text"
            )
            self.taken_at, version, name, lsn = cursor.fetchone()
        self.info = {"server_version": version, "database": name, "lsn": lsn}
        self.tables = describe_tables(self.connection, schemas)


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
                "run again."
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
                          foreign_keys=foreign_keys)

    @property
    def mark(self) -> dict[str, Any]:
        return {"source": self._tap.source}

    def get_batch_config(self, config: Any) -> Any:
        return super().get_batch_config(config) if self.replication_method == "FULL_TABLE" else None

    def query(self) -> sql.Composed:
        """What is read, with the MeltanoLabs settings that narrow it."""
        names = database.identifiers([column.name for column in self.table.columns])
        query = sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier(*self.source_key))
        clauses = self.config.get("stream_options", {}).get(self.name, {}).get("custom_where_clauses", [])
        conditions = [sql.SQL("({})").format(sql.SQL(clause.strip())) for clause in clauses]
        start = self.get_starting_replication_key_value(None) if self.replication_key else None
        if start is not None:
            conditions.append(sql.SQL("{} >= {}").format(sql.Identifier(self.replication_key), sql.Literal(start)))
        if conditions:
            query += sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions)
        if self.replication_key:
            query += sql.SQL(" ORDER BY {} NULLS FIRST").format(sql.Identifier(self.replication_key))
        limits = [self.max_record_count(), self.ABORT_AT_RECORD_COUNT and self.ABORT_AT_RECORD_COUNT + 1]
        if limit := min(filter(None, limits), default=None):
            query += sql.SQL(" LIMIT {}").format(sql.Literal(limit))
        return query

    def extract(self, folder: Path) -> protocol.Extract:
        """COPY to a file, hashed on its way."""
        what = ".".join(self.source_key)
        for column in self.table.columns:
            if column.source_type:
                self.logger.info("%s.%s: %s lands as %s", what, column.name, column.source_type, column.type)
        progress = database.Progress(self.logger, what, rows=self.source_table.estimated_rows)
        path = folder / f"{zone.folder_name(self.name)}.csv"
        try:
            copied = database.copy_out(self._tap.snapshot.connection, self.query(), path, progress)
        except psycopg2.Error as error:
            raise SourceError(
                f"Table {what} could not be read to its end: {describe(error)}. Nothing of this date was committed; "
                f"run again: {project.extract_command(self._tap.source, project.run_date('DATESTAMP'))}"
            ) from error
        progress.done(copied.rows)
        file = zone.File(path.name, copied.rows, copied.bytes, copied.sha256)
        return protocol.Extract(replace(self.table, files=[file]), path)


class TapPostgres(protocol.LandingTap, StockTapPostgres):
    """Singer tap for PostgreSQL, from one snapshot, by COPY."""

    package_name = "landing"
    config_jsonschema = {
        **StockTapPostgres.config_jsonschema,
        "properties": {
            **StockTapPostgres.config_jsonschema["properties"],
            **th.PropertiesList(protocol.SOURCE, protocol.LANDING_ROOT, protocol.USE_BATCH).to_dict()["properties"],
        },
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.date = project.run_date("DATESTAMP")  # first of all: a bad date is refused before anything is read
        super().__init__(*args, **{**kwargs, "config": database.with_certificate_authority(kwargs["config"])})

    @property
    def source(self) -> str:
        """Name of this source."""
        return project.source_name(self.config.get("source"), default="postgres")

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
        return Snapshot(self.dsn, self.schemas, wanted)

    @property
    def catalog_dict(self) -> dict[str, Any]:
        """The given catalog, else every table and view with its exact types."""
        if self.input_catalog:
            return self.input_catalog.to_dict()
        if not self._catalog_dict:
            connection = database.connect(self.dsn, "tap-postgres")
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
        if self.config.get("use_batch", True) and self.landing_zone.keeps(self.source, self.date):
            for stream in self.streams.values():
                stream.selected = False
        super().sync_all()
        if "snapshot" in self.__dict__:
            self.snapshot.connection.close()

    def closing(self) -> dict[str, Any]:
        """When, and from which snapshot, this was taken."""
        if "snapshot" not in self.__dict__:  # nothing was read
            return {"source": self.source}
        return {"source": self.source, "taken_at": self.snapshot.taken_at.isoformat(), "snapshot": self.snapshot.info}


def main() -> None:
    """Entry point."""
    protocol.run(TapPostgres)
