"""Singer -> the warehouse: landed dates as warehouse.py has it, all else as the MeltanoLabs target does it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
from singer_sdk import Sink
from singer_sdk import typing as th
from singer_sdk.helpers._batch import BaseBatchFileEncoding
from sqlalchemy import Engine, StaticPool, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from landing import checked, committing, database, dialect, project, protocol, zone
from landing.committing import CommitPoint
from landing.deferred import deferred
from landing.errors import (
    DamagedError,
    LandingError,
    NoProofError,
    SettingError,
    StalledError,
    UnreachableError,
    WarehouseError,
    describe,
)
from landing.staging import Load
from landing.warehouse import Warehouse, refuse_shared_names
from landing.workers import Workers

with deferred("paramiko"):
    from target_postgres.connector import PostgresConnector
    from target_postgres.sinks import PostgresSink
    from target_postgres.target import TargetPostgres as StockTargetPostgres

KEY_MEMORY = 256 << 10  # kB on the warehouse's server, for each key that is being built


class Connector(PostgresConnector):
    """The stock one on one connection, all in one transaction: a tap that dies midway changes nothing."""

    def create_engine(self) -> Engine:
        """An engine whose commits wait for commit(); who ends without it has done nothing."""
        engine = create_engine(
            self.sqlalchemy_url, poolclass=StaticPool, pool_reset_on_return=None,
            json_serializer=dialect.json_text, json_deserializer=self.deserialize_json,
        )
        self._commit = engine.dialect.do_commit
        engine.dialect.do_commit = engine.dialect.do_rollback = lambda _: None
        return engine

    def commit(self, point: CommitPoint) -> None:
        """Make everything be there."""
        with self._engine.connect() as connection:
            dbapi = connection.connection.dbapi_connection
            with point.passing(lost=lambda: bool(dbapi.closed)):
                self._commit(dbapi)

    def close(self) -> None:
        """End the connection, and with it what was not committed."""
        if self._cached_engine:
            self._cached_engine.dispose()

    def get_sqlalchemy_query(self, config: dict[str, Any]) -> dict[str, Any]:
        """libpq's options for TLS; the stock one wants a certificate authority even where nothing is verified."""
        mode = config["ssl_mode"]
        if not config["ssl_enable"] or mode.startswith("verify-"):
            return super().get_sqlalchemy_query(config)
        return {**super().get_sqlalchemy_query({**config, "ssl_enable": False}), "sslmode": mode}


class StockSink(protocol.LookingSink, PostgresSink):
    """For streams that do not come out of the landing zone."""

    connector_class = Connector

    def table_of(self, stream_name: str, schema: dict) -> str:
        return stream_name.split("-")[-1]

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
                th.Property(
                    "load_lock_timeout",
                    th.IntegerType(minimum=0),
                    default=3600,
                    description="Seconds that a load waits for another load of the same schema to end.",
                ),
                protocol.CONNECTIONS,
                protocol.STALL_TIMEOUT,
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
        config = database.with_certificate_authority(kwargs["config"], "TARGET_POSTGRES_SSLROOTCERT")
        config.setdefault("default_target_schema", os.environ.get("SCHEMA", "public"))
        if not config["default_target_schema"]:
            raise SettingError("SCHEMA is empty. Run again with SCHEMA=public, or leave it unset.")
        super().__init__(*args, **{**kwargs, "config": config})
        self._received: dict[str, int] = {}  # RECORDs of our own taps that go the stock way

    @cached_property
    def staging(self) -> Path:
        """Where RECORDs of landed dates are written before COPY takes them."""
        return protocol.scratch_folder()

    @property
    def again(self) -> str:
        return project.load_command(project.run_date("EXTRACTED_AT"), self.config["default_target_schema"])

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
        mark = (kwargs.get("schema") or {}).get(protocol.MARK, {})
        if stream_name in self.sinks or "extracted_at" in mark:
            return self.file_sink(stream_name, kwargs.get("schema"), kwargs.get("key_properties"))
        if mark:
            self._received.setdefault(stream_name, 0)
        return super().get_sink(stream_name, **kwargs)

    def _process_record_message(self, message_dict: dict) -> None:
        if message_dict["stream"] in self._received:
            self._received[message_dict["stream"]] += 1
        super()._process_record_message(message_dict)

    def listen(self, file_input: Any = None) -> None:
        """Take all input; what is not committed at the end is taken back."""
        try:
            super().listen(file_input)
        except (SQLAlchemyError, psycopg.Error) as error:
            raise self.refusal(error) from error
        finally:
            self.target_connector.close()

    def refusal(self, error: Exception) -> LandingError:
        """In PostgreSQL's own words, where they are: SQLAlchemy's hold statements and values."""
        if not isinstance(error, (SQLAlchemyError, psycopg.Error)):
            return super().refusal(error)
        if self.point.state == committing.UNKNOWN:
            return WarehouseError(f"The connection was lost. {self.point.unknown}")
        cause = getattr(error, "orig", None) or error
        said = describe(cause) if isinstance(cause, psycopg.Error) else f"{type(cause).__name__}: {cause}"[:500]
        return WarehouseError(f"The warehouse does not take what the tap sends: {said}. Nothing was committed; when "
                              "the cause is mended, run again.")

    def commit(self) -> None:
        """Load the date, if the tap proved that this was all of it; and what came the stock way."""
        if self._received:
            self._prove(self._received)
        if self.sinks or (self.proof or {}).get("sources"):
            for sink in self.sinks.values():
                sink.finish()
            self._load(self.proved(self.sinks))
        if self._sinks_active.keys() - self.sinks.keys():
            self.target_connector.commit(self.point)

    def _prove(self, received: Mapping[str, int]) -> None:
        sent = self.streams_sent(received)
        for stream, rows in received.items():
            if sent[stream]["rows"] != rows:
                raise NoProofError(f"{stream}: the tap sent {sent[stream]['rows']} rows, and {rows} arrived. Nothing "
                                   "was committed; run again.")

    def _load(self, files: Mapping[str, list[zone.File]]) -> None:
        if not {"extracted_at", "sources"} <= self.proof.keys():
            raise NoProofError("The tap's closing message does not say which date of which sources this was. Nothing "
                               "was loaded; run again.")
        day, sources = project.parse_date(self.proof["extracted_at"], "extracted_at"), self.proof["sources"]
        project.reached(day, "extracted_at")
        loads = {stream: _load_of(sink, files[stream], day) for stream, sink in self.sinks.items()}
        refuse_shared_names(loads.values())
        with self._warehouse(day) as warehouse:
            loaded = {} if self._reload else warehouse.loaded(day)
            new = warehouse.planned({stream: load for stream, load in loads.items()
                                     if loaded.get((load.source, load.table.name)) != load.run_id})
            files_of = {stream: list(zip(self.sinks[stream].paths, files[stream], strict=True)) for stream in new}
            with Workers(count := self.config["connections"], self._worker) as workers:
                staged = warehouse.stage(workers, [(load, files_of[stream]) for stream, load in new.items()],
                                         alone=count == 1)
            warehouse.swap(day, sources, staged, {(load.source, load.table.name) for load in loads.values()})
            ahead = warehouse.ahead(day, sources)
        self._say(day, sources, staged, len(loads))
        for source, newest in ahead.items():
            self.logger.info("The views of %s stay at %s, which is newer.%s", source, newest,
                             f" It is yet to come: landing drop {newest}" if newest > project.today() else "")

    def _connect(self) -> Any:
        return database.connect(self.connection_arguments, self.name, self.config["stall_timeout"])

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
                warehouse.point = self.point
                warehouse.load_lock_timeout = self.config["load_lock_timeout"]
                self.point.done = f"{day} is loaded into {schema}."
                self.point.unknown = (
                    f"The server did not confirm the COMMIT of {day} into {schema}: run `landing verify {day}`, or the "
                    f"load again, which changes nothing that is loaded: {project.load_command(day, schema)}")
                warehouse.acquire()
                try:
                    yield warehouse
                finally:
                    with contextlib.suppress(psycopg2.Error, LandingError):  # what is left over, the next load removes
                        warehouse.drop_staging()
                        warehouse.release()
        except UnreachableError as error:
            raise UnreachableError(f"{error} Nothing was loaded: {project.load_command(day, schema)}") from error
        except StalledError as error:
            said = (self.point.unknown if self.point.state == committing.UNKNOWN else
                    f"Nothing was loaded: {project.load_command(day, schema)}")
            raise StalledError(f"{error} {said}") from error
        except psycopg2.Error as error:
            if self.point.state == committing.UNKNOWN:
                raise WarehouseError(f"The connection was lost ({describe(error)}). {self.point.unknown}") from error
            rights = "load/roles/warehouse_loader.sql gives the rights that a load needs, in every SCHEMA named there. "
            raise WarehouseError(
                f"The warehouse ended the load of {day} into {schema}: {describe(error)}. A date is loaded in one "
                "transaction: readers see all of it, or what they saw before. "
                f"{rights if isinstance(error, psycopg2.errors.InsufficientPrivilege) else ''}"
                f"When the cause is mended, run again: {project.load_command(day, schema)}"
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


def _load_of(sink: protocol.FileSink, files: list[zone.File], day: date) -> Load:
    mark = sink.mark
    if mark.get("extracted_at") != day.isoformat():
        raise DamagedError(f"Stream {sink.stream_name} is of {mark.get('extracted_at')}, and the tap loads {day}. "
                           "Nothing was loaded; run again.")
    table = zone.Table(
        sink.stream_name, mark["table"], mark["schema"], sink.columns, list(mark["primary_key"]), files,
        mark.get("comment"), foreign_keys=sink.foreign_keys,
    )
    return Load(mark["source"], day, mark["run_id"], checked.utc(mark["taken_at"]), table)


def main() -> None:
    """Entry point."""
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
    protocol.run(TargetPostgres)
