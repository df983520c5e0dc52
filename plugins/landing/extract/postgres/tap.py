"""PostgreSQL -> Singer: the settings of the MeltanoLabs tap, with streams extracted by COPY from one snapshot.

The settings are read from a file (`make locks`), and the MeltanoLabs tap is imported where one needs it: see stock.py.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn
from singer_sdk import Stream
from singer_sdk import typing as th
from singer_sdk.helpers.capabilities import SQL_TAP_USE_SINGER_DECIMAL

from landing.core.dates import run_date
from landing.core.errors import SettingError, SourceError, StalledError, UnreachableError, describe
from landing.core.sources import source_name, stock_source
from landing.core.variables import objects
from landing.extract.postgres.catalog import catalog, describe_tables
from landing.extract.postgres.incremental_settings import FULL_EVERY, INCREMENTAL
from landing.extract.postgres.keys import with_keys
from landing.extract.postgres.locks import passes
from landing.extract.postgres.protected import protections
from landing.extract.postgres.relations import Key
from landing.extract.postgres.row_versions import Position, position
from landing.extract.postgres.snapshot import Snapshot
from landing.extract.postgres.stream import CopyStream
from landing.extract.tap import ExtractTap
from landing.postgres.connect import connect
from landing.postgres.parameters import CONNECTION, checked, libpq_arguments
from landing.postgres.tls import with_certificate_authority
from landing.postgres.worker_pool import WorkerPool
from landing.protection import references
from landing.protection.columns import TableProtection
from landing.singer.settings import (
    COMPRESSION,
    CONNECTIONS,
    DISK_HEADROOM,
    LANDING_ROOT,
    SOURCE,
    STALL_TIMEOUT,
    USE_BATCH,
)
from landing.storage.base import Prefix

KEYS = th.Property(
    "keys",
    th.ObjectType(additional_properties=True),  # Meltano splits `public.events` at its dot
    description="Key columns of tables without a primary key, by `schema.table`: `{public.events: [id]}`. Checked on "
    "the rows that are extracted: not NULL, and unique.",
)
PROTECT = th.Property(
    "protect",
    th.ObjectType(additional_properties=True),
    description="Protected columns, by `schema.table` and column, each a name or a pattern: `{public.customers: {id: "
    "token, email: encrypt, phone: mask, notes: drop}, \"*\": {\"*email*\": encrypt}}`. `plain` is an exception from a "
    "pattern.",
)
OBJECTS = {"keys": {"public.events": ["id"]}, "protect": {"public.customers": {"email": "encrypt"}},
           "incremental": {"public.orders": {"full_every": 30}}}  # settings, with an example of each
STOCK_SETTINGS = json.loads(Path(__file__).with_name("stock_settings.json").read_text("utf-8"))
SETTINGS = th.PropertiesList(
    KEYS, PROTECT, FULL_EVERY, INCREMENTAL, SOURCE, LANDING_ROOT, USE_BATCH, CONNECTIONS, COMPRESSION, STALL_TIMEOUT,
    DISK_HEADROOM,
).to_dict()["properties"]
CHECKED = {*CONNECTION, "filter_schemas", "ssl_enable", "ssl_mode", "ssl_certificate_authority", *SETTINGS}
logger = logging.getLogger(__name__)


class TapPostgres(ExtractTap):
    """Singer tap for PostgreSQL."""

    name = "tap-postgres"
    package_name = "landing"
    dynamic_catalog = True  # validates settings at discovery
    config_jsonschema = {**STOCK_SETTINGS, "properties": {**STOCK_SETTINGS["properties"], **SETTINGS}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.date = run_date("DATESTAMP")  # an invalid date is rejected before anything is read
        self._started: set[CopyStream] = set()
        config = with_certificate_authority(checked(kwargs["config"], "SOURCE", self.name),
                                            "SOURCE_POSTGRES_SSLROOTCERT")
        self._stock = None
        if not CHECKED.issuperset(config) or libpq_arguments(config) is None:
            from landing.extract.postgres.stock import StockTap  # here: see there

            self._stock = StockTap(config)
        super().__init__(*args, **{**kwargs, "config": objects(self.name, config, OBJECTS)})

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        """Add the settings of the SDK, those of its SQLTap included."""
        properties = config_jsonschema["properties"]
        properties |= {**SQL_TAP_USE_SINGER_DECIMAL["properties"], **properties}
        super().append_builtin_config(config_jsonschema)

    @property
    def source(self) -> str:
        """Name of this source."""
        return source_name(self.config.get("source"), stock_source("postgres"))

    @property
    def dsn(self) -> str:
        """Connection string for libpq, through the SSH tunnel if one is configured."""
        arguments = libpq_arguments(self.config)
        return self._stock.dsn if arguments is None else make_dsn(**arguments)

    @property
    def schemas(self) -> list[str]:
        """The setting `filter_schemas`; empty: all but PostgreSQL's own."""
        return self.config.get("filter_schemas") or []

    @property
    def keys(self) -> Mapping[str, Any]:
        """The setting `keys`: declared keys by `schema.table`."""
        return self.config.get("keys") or {}

    @cached_property
    def snapshot(self) -> Snapshot:
        """The snapshot of this run, taken on first use."""
        wanted = [stream.source_key for stream in self.streams.values() if stream.chosen]
        try:
            found = Snapshot(self.dsn, self.schemas, wanted, self.config["connections"], self.config["stall_timeout"],
                             self.keys)
        except SourceError as error:
            raise SourceError(f"{str(error).rstrip('.')}: {self.retry_command}") from error
        for key, why in found.left_out.items():
            logger.warning("%s is left out: %s, so there is nothing to read. The manifest records it. To land it: "
                           "REFRESH MATERIALIZED VIEW at the source.", ".".join(key), why)
        return found

    @cached_property
    def protections(self) -> Mapping[Key, TableProtection]:
        """How columns are protected, by table, where some are."""
        return protections(self.protect, self.snapshot.tables)

    @property
    def protect(self) -> Mapping[str, Any]:
        """The setting `protect`."""
        return self.config.get("protect") or {}

    @cached_property
    def position(self) -> Position:
        """Where the snapshot is in the life of its cluster; the manifest records it for increments."""
        with self.snapshot.connection.cursor() as cursor:
            found = position(cursor, self.snapshot.info["lsn"])
        self.snapshot.info |= found.info()
        return found

    @cached_property
    def workers(self) -> WorkerPool:
        """The connections that run COPY."""
        return WorkerPool(self.config["connections"], self.snapshot.worker, [self.snapshot.connection])

    def start(self, stream: CopyStream, folder: Prefix) -> None:
        """Start copying a table; in batch mode start all tables at once, the largest first."""
        if stream in self._started:
            return
        batches = [other for other in self.streams.values() if other.selected and other.get_batch_config(self.config)]
        streams = batches if stream in batches else [stream]
        if streams is batches:
            self.require_room(self.snapshot.expected_bytes([one.source_key for one in streams if one.whole]))
        self._started.update(streams)
        for one in sorted(streams, key=lambda one: -self.snapshot.pages(one.source_key)):
            one.start(folder)

    def report(self) -> None:
        """Log the progress of tables that are being copied, where a line is due."""
        for stream in self._started:
            stream.progress.report()

    @property
    def catalog_dict(self) -> dict[str, Any]:
        """The given catalog, else the discovered one."""
        return self.input_catalog.to_dict() if self.input_catalog else self.discovered_catalog

    @cached_property
    def discovered_catalog(self) -> dict[str, Any]:
        """Every table and view of the source with its exact types."""
        with contextlib.closing(connect(self.dsn, "tap-postgres", self.config["stall_timeout"])) as connection:
            return catalog(with_keys(describe_tables(connection, self.schemas), self.keys).values())

    def discover_streams(self) -> Sequence[Stream]:
        """One stream per table."""
        for entry in self.catalog_dict["streams"]:
            if entry.get("replication_method") == "LOG_BASED":
                raise SettingError(
                    f"{entry['tap_stream_id']}: LOG_BASED replication sends changes, but a landed date is a snapshot. "
                    "Use FULL_TABLE, or the stock meltanolabs-tap-postgres, and run again."
                )
        return [CopyStream(self, entry) for entry in self.catalog_dict["streams"]]

    def sync_all(self) -> None:
        """Sync all streams, unless the landed date is frozen."""
        self.log_slips()
        if not self.keep_if_frozen():
            self.refuse_unmatched()
        try:
            if not self.kept:
                self._check_protection()
            super().sync_all()
        except (UnreachableError, StalledError) as error:
            raise type(error)(f"{error} Nothing of {self.date} was committed. Then run: {self.retry_command}"
                              ) from error
        except psycopg2.Error as error:
            then = "Run again" if passes(error) else "Correct it at the source, then run"
            raise SourceError(f"The extract of {self.date} failed at the source: {describe(error)}. Nothing of this "
                              f"date was committed. {then}: {self.retry_command}") from error
        with contextlib.suppress(psycopg2.Error):  # everything is sent and confirmed
            self.close_connections()

    def _check_protection(self) -> None:
        """Raise SettingError before any row is read, if columns cannot be protected; warn of what does not join."""
        if self.protect:
            for sentence in references.broken([one.table for one in self.streams.values() if one.selected]):
                logger.warning("%s.", sentence)

    def close_connections(self) -> None:
        """Close all connections."""
        if "workers" in self.__dict__:
            self.workers.close()
        if "snapshot" in self.__dict__:
            self.snapshot.close()

    def closing(self) -> dict[str, Any]:
        """The completion message: what was extracted, when, and from which snapshot."""
        if "snapshot" not in self.__dict__:  # nothing was read
            return self.landed_closing({})
        self.snapshot.confirm()
        unreadable = {self.snapshot.tables[key].stream: why for key, why in self.snapshot.left_out.items()}
        available = {table.stream: [column.name for column in table.columns] for table in self.snapshot.tables.values()
                     if table.stream not in unreadable}
        return {**self.landed_closing(available), "unreadable": unreadable, "taken_at": self.snapshot.taken_at,
                "snapshot": self.snapshot.info}
