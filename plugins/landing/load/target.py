"""Singer -> the warehouse: landed dates as warehouse.py has it, all else as the MeltanoLabs target does it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
from singer_sdk import Sink
from singer_sdk import typing as th
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from landing.core.commands import load_command
from landing.core.commit_point import UNKNOWN
from landing.core.dates import reached, run_date, today
from landing.core.errors import (
    DamagedError,
    IncompleteInputError,
    LandingError,
    SettingError,
    StalledError,
    UnreachableError,
    WarehouseError,
    describe,
)
from landing.core.settings import flag
from landing.load.planning import refuse_shared_names
from landing.load.staging import Load
from landing.load.stock import StockSink
from landing.load.warehouse import Warehouse
from landing.model.schema import File, Table
from landing.postgres.connect import connect
from landing.postgres.tls import with_certificate_authority
from landing.postgres.worker_pool import WorkerPool
from landing.singer.deferred import deferred
from landing.singer.metadata import METADATA, StreamMetadata
from landing.singer.scratch import scratch_folder
from landing.singer.settings import CONNECTIONS, STALL_TIMEOUT
from landing.singer.sinks import FileSink
from landing.singer.target import LandingTarget

with deferred("paramiko"):
    from target_postgres.target import TargetPostgres as StockTargetPostgres
KEY_MEMORY = 256 << 10  # kB on the warehouse's server, for each key that is being built


class TargetPostgres(LandingTarget, StockTargetPostgres):
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
                CONNECTIONS,
                STALL_TIMEOUT,
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
            run_date("EXTRACTED_AT")  # refused before anything is read
        config = with_certificate_authority(kwargs["config"], "TARGET_POSTGRES_SSLROOTCERT")
        config.setdefault("default_target_schema", os.environ.get("SCHEMA", "public"))
        if not config["default_target_schema"]:
            raise SettingError("SCHEMA is empty. Run again with SCHEMA=public, or leave it unset.")
        super().__init__(*args, **{**kwargs, "config": config})
        self._received: dict[str, int] = {}  # RECORDs of our own taps that go the stock way

    @cached_property
    def staging(self) -> Path:
        """Where RECORDs of landed dates are written before COPY takes them."""
        return scratch_folder()

    @property
    def retry_command(self) -> str:
        return load_command(run_date("EXTRACTED_AT"), self.config["default_target_schema"])

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
        schema = kwargs.get("schema") or {}
        if stream_name in self.sinks or StreamMetadata.of_schema(schema).extracted_at:
            return self.file_sink(stream_name, kwargs.get("schema"), kwargs.get("key_properties"))
        if METADATA in schema:
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
        if self.point.state == UNKNOWN:
            return WarehouseError(f"The connection was lost. {self.point.unknown}")
        cause = getattr(error, "orig", None) or error
        said = describe(cause) if isinstance(cause, psycopg.Error) else f"{type(cause).__name__}: {cause}"[:500]
        return WarehouseError(f"The warehouse does not take what the tap sends: {said}. Nothing was committed; when "
                              "the cause is mended, run again.")

    def commit(self) -> None:
        """Load the date, if the tap proved that this was all of it; and what came the stock way."""
        if self._received:
            self._prove(self._received)
        if self.sinks or (self.completion and self.completion.sources):
            for sink in self.sinks.values():
                sink.finish()
            self._load(self.verified_files(self.sinks))
        if self._sinks_active.keys() - self.sinks.keys():
            self.target_connector.commit(self.point)

    def _prove(self, received: Mapping[str, int]) -> None:
        sent = self.streams_sent(received)
        for stream, rows in received.items():
            if sent[stream].rows != rows:
                raise IncompleteInputError(f"{stream}: the tap sent {sent[stream].rows} rows, and {rows} arrived. "
                                           "Nothing was committed; run again.")

    def _load(self, files: Mapping[str, list[File]]) -> None:
        day, sources = self.completion.extracted_at, self.completion.sources
        if day is None or sources is None:
            raise IncompleteInputError("The tap's closing message does not say which date of which sources this was. "
                                       "Nothing was loaded; run again.")
        reached(day, "extracted_at")
        loads = {stream: _load_of(sink, files[stream], day) for stream, sink in self.sinks.items()}
        refuse_shared_names(loads.values())
        with self._warehouse(day) as warehouse:
            loaded = {} if self._reload else warehouse.loaded(day)
            new = warehouse.planned({stream: load for stream, load in loads.items()
                                     if loaded.get((load.source, load.table.name)) != load.run_id})
            files_of = {stream: list(zip(self.sinks[stream].paths, files[stream], strict=True)) for stream in new}
            with WorkerPool(count := self.config["connections"], self._worker) as workers:
                staged = warehouse.stage(workers, [(load, files_of[stream]) for stream, load in new.items()],
                                         alone=count == 1)
            warehouse.swap(day, sources, staged, {(load.source, load.table.name) for load in loads.values()})
            ahead = warehouse.ahead(day, sources)
        self._say(day, sources, staged, len(loads))
        for source, newest in ahead.items():
            self.logger.info("The views of %s stay at %s, which is newer.%s", source, newest,
                             f" It is yet to come: landing drop {newest}" if newest > today() else "")

    def _connect(self) -> Any:
        return connect(self.connection_arguments, self.name, self.config["stall_timeout"])

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
                warehouse = Warehouse(connection, schema, self.logger, self.config["lock_timeout"], self.point)
                self.point.done = f"{day} is loaded into {schema}."
                self.point.unknown = (
                    f"The server did not confirm the COMMIT of {day} into {schema}: run `landing verify {day}`, or the "
                    f"load again, which changes nothing that is loaded: {load_command(day, schema)}")
                warehouse.acquire(self.config["load_lock_timeout"])
                try:
                    yield warehouse
                finally:
                    with contextlib.suppress(psycopg2.Error, LandingError):  # what is left over, the next load removes
                        warehouse.drop_staging()
                        warehouse.lock.release()
        except UnreachableError as error:
            raise UnreachableError(f"{error} Nothing was loaded: {load_command(day, schema)}") from error
        except StalledError as error:
            said = (self.point.unknown if self.point.state == UNKNOWN else
                    f"Nothing was loaded: {load_command(day, schema)}")
            raise StalledError(f"{error} {said}") from error
        except psycopg2.Error as error:
            if self.point.state == UNKNOWN:
                raise WarehouseError(f"The connection was lost ({describe(error)}). {self.point.unknown}") from error
            rights = "load/roles/warehouse_loader.sql gives the rights that a load needs, in every SCHEMA named there. "
            raise WarehouseError(
                f"The warehouse ended the load of {day} into {schema}: {describe(error)}. A date is loaded in one "
                "transaction: readers see all of it, or what they saw before. "
                f"{rights if isinstance(error, psycopg2.errors.InsufficientPrivilege) else ''}"
                f"When the cause is mended, run again: {load_command(day, schema)}"
            ) from error

    @property
    def _reload(self) -> bool:
        return bool(self.config.get("reload")) or flag("RELOAD")

    def _say(self, day: date, sources: list[str], new: list[Load], tables: int) -> None:
        schema, names = self.config["default_target_schema"], ", ".join(sources)
        if not new:
            self.logger.info("%s of %s (%d tables) is loaded already: nothing changed.", names, day, tables)
            return
        rows = sum(load.table.rows for load in new)
        self.logger.info("Loaded %s of %s into %s: %d tables, %s rows%s.", names, day, schema, len(new), f"{rows:,}",
                         f"; {tables - len(new)} were loaded already" if tables > len(new) else "")


def _load_of(sink: FileSink, files: list[File], day: date) -> Load:
    metadata = sink.stream_metadata
    if metadata.extracted_at != day:
        raise DamagedError(f"Stream {sink.stream_name} is of {metadata.extracted_at}, and the tap loads {day}. "
                           "Nothing was loaded; run again.")
    table = Table(
        stream=sink.stream_name, name=metadata.table or sink.stream_name, schema=metadata.schema, columns=sink.columns,
        primary_key=metadata.primary_key, files=files, comment=metadata.comment, foreign_keys=metadata.foreign_keys)
    return Load(metadata.source, day, metadata.run_id, metadata.taken_at, table)
