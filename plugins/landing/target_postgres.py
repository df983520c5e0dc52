"""Singer -> the warehouse: landed dates as warehouse.py has it, all else as the MeltanoLabs target does it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from singer_sdk import Sink
from singer_sdk import typing as th
from sqlalchemy.engine import make_url
from target_postgres.connector import PostgresConnector
from target_postgres.sinks import PostgresSink
from target_postgres.target import TargetPostgres as StockTargetPostgres

from landing import database, project, protocol, zone
from landing.errors import DamagedError, SettingError, WarehouseError
from landing.warehouse import Load, Warehouse


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
        self._refuse_shared_names(loads)
        connection = database.connect(self.connection_arguments, "landing-target-postgres")
        warehouse = Warehouse(
            connection, self.config["default_target_schema"], self.logger, self.config["lock_timeout"]
        )
        warehouse.acquire()
        loaded = {} if self._reload else warehouse.loaded(day)
        new = {s: load for s, load in loads.items() if loaded.get((load.source, load.table.name)) != load.run_id}
        planned = {stream: warehouse.planned(load) for stream, load in new.items()}
        try:
            staged = [
                warehouse.stage(load, list(zip(self.landed[stream].paths, files[stream], strict=True)), number)
                for number, (stream, load) in enumerate(planned.items())
            ]
            present = {(load.source, load.table.name) for load in loads.values()}
            warehouse.swap(day, sources, staged, present)
        finally:
            if not connection.closed:
                warehouse.drop_staging()
                connection.close()
        self._say(day, sources, list(new.values()), len(loads))

    @property
    def _reload(self) -> bool:
        return bool(self.config.get("reload")) or project.flag("RELOAD")

    def _refuse_shared_names(self, loads: Mapping[str, Load]) -> None:
        seen: dict[str, str] = {}
        for stream, load in loads.items():
            other = seen.setdefault(load.table.name, stream)
            if other != stream:
                raise WarehouseError(
                    f"Streams {other} and {stream} both want to be table {load.table.name!r} in the warehouse. Nothing "
                    "was loaded. Leave one out (filter_schemas, select) or rename it, land again, and load."
                )

    def _say(self, day: date, sources: list[str], new: list[Load], tables: int) -> None:
        schema, names = self.config["default_target_schema"], ", ".join(sources)
        if not new:
            self.logger.info("%s of %s (%d tables) is loaded already: nothing changed.", names, day, tables)
            return
        rows = sum(load.table.rows for load in new)
        self.logger.info("Loaded %s of %s into %s: %d tables, %s rows%s.", names, day, schema, len(new), f"{rows:,}",
                         f"; {tables - len(new)} were loaded already" if tables > len(new) else "")


def _load_of(sink: protocol.FileSink, files: list[zone.File], day: date) -> Load:
    mark = sink.mark
    if mark["extracted_at"] != day.isoformat():
        raise DamagedError(f"Stream {sink.stream_name} is of {mark['extracted_at']}, and the tap loads {day}.")
    table = zone.Table(
        sink.stream_name, mark["table"], mark["schema"], sink.columns, list(mark["primary_key"]), files,
        mark.get("comment"),
    )
    return Load(mark["source"], day, mark["run_id"], datetime.fromisoformat(mark["taken_at"]), table)


def main() -> None:
    """Entry point."""
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
    protocol.run(TargetPostgres)
