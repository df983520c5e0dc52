"""Singer -> the warehouse: landed dates as warehouse.py has it, all else as the MeltanoLabs target does it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg2
from singer_sdk import Sink
from singer_sdk import typing as th
from singer_sdk.helpers._batch import BaseBatchFileEncoding
from sqlalchemy.engine import make_url
from target_postgres.connector import PostgresConnector
from target_postgres.sinks import PostgresSink
from target_postgres.target import TargetPostgres as StockTargetPostgres

from landing import database, project, protocol, zone
from landing.errors import DamagedError, SettingError, WarehouseError, describe
from landing.staging import Load
from landing.warehouse import Warehouse
from landing.workers import Workers

KEY_MEMORY = 256 << 10  # kB on the warehouse's server, for each key that is being built


class Connector(PostgresConnector):
    """The stock one, which wants a certificate authority even where nothing is verified."""

    def get_sqlalchemy_query(self, config: dict[str, Any]) -> dict[str, Any]:
        """libpq's options for TLS."""
        mode = config["ssl_mode"]
        if not config["ssl_enable"] or mode.startswith("verify-"):
            return super().get_sqlalchemy_query(config)
        return {**super().get_sqlalchemy_query({**config, "ssl_enable": False}), "sslmode": mode}


class StockSink(PostgresSink):
    """For streams that do not come out of the landing zone."""

    connector_class = Connector

    def process_batch_files(self, encoding: BaseBatchFileEncoding, files: Sequence[str]) -> None:
        """The SDK reads the formats that it knows; ours mean that a tap of ours is here without the landing zone."""
        if encoding.format == protocol.ENCODING:
            raise SettingError(
                f"Stream {self.stream_name} comes as files, and not out of the landing zone. Land it first (meltano "
                "run <tap> target-csv) and load that, or send RECORDs: set use_batch: false for the tap."
            )
        super().process_batch_files(encoding, files)


class TargetPostgres(protocol.LandingTarget, StockTargetPostgres):
    """Singer target for a warehouse with history by date."""

    package_name = "landing"
    default_sink_class = StockSink
    config_jsonschema = {
        **StockTargetPostgres.config_jsonschema,
        "properties": {
            **StockTargetPostgres.config_jsonschema["properties"],
            **th.PropertiesList(
                th.Property(
                    "default_target_schema",
                    th.StringType,
                    description="Schema of the views; history is in <schema>_history. Unset: SCHEMA, else `public`.",
                ),
                th.Property(
                    "lock_timeout",
                    th.IntegerType,
                    default=60,
                    description="Seconds that the swap of a date waits for those who use the tables.",
                ),
                protocol.CONNECTIONS,
                th.Property(
                    "reload",
                    th.BooleanType,
                    description="Load again what the ledger says is loaded. Unset: RELOAD, else no.",
                ),
            ).to_dict()["properties"],
        },
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if os.environ.get("MELTANO_ENVIRONMENT") == "load":
            project.run_date("EXTRACTED_AT")  # refused before anything is read
        config = database.with_certificate_authority(kwargs["config"])
        config.setdefault("default_target_schema", os.environ.get("SCHEMA", "public"))
        if not config["default_target_schema"]:
            raise SettingError("SCHEMA is empty. Run again with SCHEMA=public, or leave it unset.")
        super().__init__(*args, **{**kwargs, "config": config})
        self.landed: dict[str, protocol.FileSink] = {}

    @cached_property
    def staging(self) -> Path:
        """Where RECORDs of landed dates are written before COPY takes them."""
        return protocol.scratch_folder()

    def accept(self, path: Path) -> Path:
        """A file of a BATCH; COPY checks its hash as it reads."""
        if not path.is_file():
            raise DamagedError(f"The tap announced {path}, and there is no such file. Was the date landed anew "
                               "meanwhile? Run the load again.")
        return path

    @cached_property
    def connection_arguments(self) -> dict[str, Any]:
        """What libpq needs to get in: the stock target's TLS and SSH tunnel, by psycopg2."""
        url = make_url(self.target_connector.sqlalchemy_url)
        return {**url.translate_connect_args(username="user", database="dbname"), **url.query}

    def get_sink(self, stream_name: str, **kwargs: Any) -> Sink:
        """Ours for a stream out of the landing zone, the stock one for any other."""
        schema = kwargs.get("schema")
        if stream_name in self.landed:
            return self.landed[stream_name]
        if schema is None or "extracted_at" not in schema.get(protocol.MARK, {}):
            return super().get_sink(stream_name, **kwargs)
        sink = protocol.FileSink(self, stream_name, schema, kwargs.get("key_properties"))
        self.landed[stream_name] = self._sinks_active[stream_name] = sink
        return sink

    def process_endofpipe(self) -> None:
        """Load the date, if the tap proved that this was all of it."""
        if self.landed or (self.proof or {}).get("sources"):
            for sink in self.landed.values():
                sink.finish()
            self._load(self.proved(self.landed))
        super().process_endofpipe()

    def _load(self, files: Mapping[str, list[zone.File]]) -> None:
        day, sources = date.fromisoformat(self.proof["extracted_at"]), self.proof["sources"]
        loads = {stream: _load_of(sink, files[stream], day) for stream, sink in self.landed.items()}
        _refuse_shared_names(loads.values())
        with self._warehouse(day) as warehouse:
            loaded = {} if self._reload else warehouse.loaded(day)
            new = warehouse.planned({stream: load for stream, load in loads.items()
                                     if loaded.get((load.source, load.table.name)) != load.run_id})
            files_of = {stream: list(zip(self.landed[stream].paths, files[stream], strict=True)) for stream in new}
            with Workers(count := self.config["connections"], self._worker) as workers:
                staged = warehouse.stage(workers, [(load, files_of[stream]) for stream, load in new.items()],
                                         alone=count == 1)
            warehouse.swap(day, sources, staged, {(load.source, load.table.name) for load in loads.values()})
        self._say(day, sources, staged, len(loads))

    def _connect(self) -> Any:
        return database.connect(self.connection_arguments, self.name)

    def _worker(self) -> Any:
        """A connection to fill staging tables.

        Its commits need not wait for the disk: that of the swap does, and it comes after them. Keys are sorted in
        memory, as far as that goes.
        """
        connection = self._connect()
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
            cursor.execute("SELECT set_config('maintenance_work_mem', greatest(setting::int, %s)::text, false) "
                           "FROM pg_settings WHERE name = 'maintenance_work_mem'", (KEY_MEMORY,))
        return connection

    @contextlib.contextmanager
    def _warehouse(self, day: date) -> Iterator[Warehouse]:
        """The warehouse, for us alone, and without leftovers at the end."""
        schema = self.config["default_target_schema"]
        try:
            with contextlib.closing(self._connect()) as connection:
                warehouse = Warehouse(connection, schema, self.logger, self.config["lock_timeout"])
                warehouse.acquire()
                try:
                    yield warehouse
                finally:
                    with contextlib.suppress(psycopg2.Error):  # what is left over, the next load removes
                        warehouse.drop_staging()
        except psycopg2.Error as error:
            raise WarehouseError(
                f"The warehouse ended the load of {day} into {schema}: {describe(error)}. A date is loaded in one "
                "transaction: readers see all of it, or what they saw before. When the cause is mended, run again: "
                f"{project.load_command(day, schema)}"
            ) from error

    @property
    def _reload(self) -> bool:
        return bool(self.config.get("reload")) or project.flag("RELOAD")

    def _say(self, day: date, sources: list[str], new: list[Load], tables: int) -> None:
        schema, names = self.config["default_target_schema"], ", ".join(sources)
        if not new:
            self.logger.info("%s of %s (%d tables) is loaded already: nothing changed.", names, day, tables)
            return
        rows = sum(load.table.rows for load in new)
        self.logger.info("Loaded %s of %s into %s: %d tables, %s rows%s.", names, day, schema, len(new), f"{rows:,}",
                         f"; {tables - len(new)} were loaded already" if tables > len(new) else "")


def _refuse_shared_names(loads: Iterable[Load]) -> None:
    seen: dict[str, Load] = {}
    for load in loads:
        other = seen.setdefault(load.table.name, load)
        if other is not load:
            raise WarehouseError(
                f"{load.table.stream} of source {load.source} and {other.table.stream} of source {other.source} both "
                f"want to be table {load.table.name!r} in the warehouse. Nothing was loaded. Leave one out "
                "(filter_schemas, select) or rename it, land again, and load."
            )


def _load_of(sink: protocol.FileSink, files: list[zone.File], day: date) -> Load:
    mark = sink.mark
    if mark["extracted_at"] != day.isoformat():
        raise DamagedError(f"Stream {sink.stream_name} is of {mark['extracted_at']}, and the tap loads {day}. Nothing "
                           "was loaded; run again.")
    table = zone.Table(
        sink.stream_name, mark["table"], mark["schema"], sink.columns, list(mark["primary_key"]), files,
        mark.get("comment"), foreign_keys=sink.foreign_keys,
    )
    return Load(mark["source"], day, mark["run_id"], datetime.fromisoformat(mark["taken_at"]), table)


def main() -> None:
    """Entry point."""
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
    protocol.run(TargetPostgres)
