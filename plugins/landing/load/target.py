"""Singer -> warehouse: landed partitions by job.py, all other streams by the MeltanoLabs target.

The settings of the MeltanoLabs target are read from a file (`make locks`), and its code is imported where a stream or a
setting needs it: see stock.py.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from singer_sdk import Sink, Target
from singer_sdk import typing as th
from singer_sdk.helpers.capabilities import PluginCapabilities, TargetCapabilities

from landing.core.commands import load_command
from landing.core.commit_point import UNKNOWN
from landing.core.dates import refuse_future, run_date
from landing.core.errors import (
    DamagedError,
    IncompleteInputError,
    LandingError,
    SettingError,
    WarehouseError,
)
from landing.core.settings import flag
from landing.core.variables import objects
from landing.load import declared_checks, migrations
from landing.load.chain import Chain, Part
from landing.load.declared_checks import DeclaredChecks
from landing.load.job import LoadJob
from landing.load.staging import Load
from landing.load.table_names import EXAMPLE, SETTING, TableNames
from landing.load.warehouse import LOAD_LOCK_TIMEOUT, LOCK_TIMEOUT
from landing.model.schema import File, Table
from landing.model.whole import Whole
from landing.postgres.connect import connect
from landing.postgres.parameters import CONNECTION, checked, libpq_arguments
from landing.postgres.tls import with_certificate_authority
from landing.singer.metadata import METADATA, StreamMetadata
from landing.singer.scratch import scratch_prefix
from landing.singer.settings import CONNECTIONS, STALL_TIMEOUT
from landing.singer.sinks import FileSink
from landing.singer.target import LandingTarget
from landing.storage.base import Object, Prefix
from landing.storage.urls import Files

SETTINGS = th.PropertiesList(
    th.Property(
        "default_target_schema",
        th.StringType,
        description="Schema of the views; history is in <schema>_history. Unset: SCHEMA, else `public`.",
    ),
    th.Property(
        SETTING,
        th.ObjectType(additional_properties=th.StringType),
        description="Where the tables of a source go, by source: a template such as " + EXAMPLE.replace("\"", "`") +
                    ". Placeholders: {table}, {schema} (of the source), {source}, {target_schema} (SCHEMA). Before a "
                    "dot is a schema of its own, with a history of its own. Unset: the default schema, under their own "
                    "names.",
    ),
    th.Property(
        declared_checks.SETTING,
        th.ObjectType(additional_properties=th.ObjectType(additional_properties=True)),
        description="Checks that block the load of a date if a table does not keep them, by source and table: "
                    "`min_rows`, `max_change` (`50%`), `foreign_keys` (`true`), `columns` (by column: `required`, "
                    "`unique`, `enum`, `minimum`, `maximum`, `pattern`), `checks` (SQL by name).",
    ),
    th.Property(
        migrations.SETTING,
        th.StringType,
        description="Folder of SQL files that are run once each before a load, `V<number>__<words>.sql`, relative to "
                    f"the project. Unset: `{migrations.FOLDER}`, if it exists.",
    ),
    th.Property(
        "lock_timeout",
        th.IntegerType,
        default=LOCK_TIMEOUT,
        description="Seconds that the swap of a date waits for other sessions to release locks.",
    ),
    th.Property(
        "load_lock_timeout",
        th.IntegerType(minimum=0),
        default=LOAD_LOCK_TIMEOUT,
        description="Seconds that a load waits for another load of the same schema to end.",
    ),
    CONNECTIONS,
    STALL_TIMEOUT,
    th.Property(
        "reload",
        th.BooleanType,
        description="Load again what the load history has already. Unset: RELOAD, else no.",
    ),
)

STOCK_SETTINGS = json.loads(Path(__file__).with_name("stock_settings.json").read_text("utf-8"))
CHECKED = {*CONNECTION, "ssl_enable", "ssl_mode", "ssl_certificate_authority", *SETTINGS.to_dict()["properties"]}
OBJECTS = {SETTING: {"crm": "crm.{table}"}, declared_checks.SETTING: {"postgres": {"orders": {"min_rows": 1}}}}
logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from landing.load.stock import Connector, StockSink


class TargetPostgres(LandingTarget):
    """Singer target for a warehouse with history partitioned by date."""

    name = "target-postgres"
    package_name = "landing"
    capabilities = [*Target.capabilities, PluginCapabilities.ACTIVATE_VERSION, TargetCapabilities.TARGET_SCHEMA,
                    TargetCapabilities.HARD_DELETE]
    config_jsonschema = {
        **STOCK_SETTINGS, "properties": {**STOCK_SETTINGS["properties"], **SETTINGS.to_dict()["properties"]}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if os.environ.get("MELTANO_ENVIRONMENT") == "load":
            run_date("EXTRACTED_AT")  # fail before anything is read
        config = with_certificate_authority(checked(kwargs["config"], "TARGET", self.name),
                                            "TARGET_POSTGRES_SSLROOTCERT")
        config.setdefault("default_target_schema", os.environ.get("SCHEMA", "public"))
        if not config["default_target_schema"]:
            raise SettingError("SCHEMA is empty. Run again with SCHEMA=public, or leave it unset.")
        if not CHECKED.issuperset(config):
            _stock().check(config)
        super().__init__(*args, **{**kwargs, "config": objects(self.name, config, OBJECTS)})
        TableNames(self.config.get(SETTING), self.config["default_target_schema"])  # fail before anything is read
        DeclaredChecks(self.config.get(declared_checks.SETTING))  # likewise
        self._files = Files()
        self._received: dict[str, int] = {}  # RECORDs of our own taps for the stock sink, by stream

    @cached_property
    def staging(self) -> Prefix:
        """Place for RECORDs of landed partitions, which COPY reads as files."""
        return scratch_prefix()

    @property
    def retry_command(self) -> str:
        return load_command(run_date("EXTRACTED_AT"), self.config["default_target_schema"])

    def accept(self, url: str) -> Object:
        """Take a file of a BATCH; COPY verifies its hash while reading."""
        found = self._files.at(url)
        if not found.storage.in_place and found.size() is None:  # in a store it would be a request a file
            raise DamagedError(f"The tap announced {found}, which does not exist. The partition may have been "
                               "extracted again in the meantime. Run the load again.")
        return found

    @cached_property
    def connection_arguments(self) -> dict[str, Any]:
        """The connection settings, TLS and SSH tunnel included, for psycopg2."""
        return libpq_arguments(self.config) or self.connector.libpq_arguments()

    @cached_property
    def connector(self) -> Connector:
        """The connection of the stock sinks."""
        return _stock().Connector(dict(self.config))

    def get_sink_class(self, stream_name: str) -> type[StockSink]:
        return _stock().StockSink

    def get_sink(self, stream_name: str, **kwargs: Any) -> Sink:
        """A file sink for a landed stream, the stock sink for any other."""
        schema = kwargs.get("schema") or {}
        if stream_name in self.sinks or StreamMetadata.of_schema(schema).extracted_at:
            return self.file_sink(stream_name, kwargs.get("schema"), kwargs.get("key_properties"))
        if METADATA in schema:
            self._received.setdefault(stream_name, 0)
        return super().get_sink(stream_name, **kwargs)

    def process_record_message(self, message: dict) -> None:
        if message["stream"] in self._received:
            self._received[message["stream"]] += 1
        super().process_record_message(message)

    def listen(self, file_input: Any = None) -> None:
        """Read all input and commit it; without a commit everything is rolled back."""
        try:
            super().listen(file_input)
        except Exception as error:
            if not _is_of_stock(error):
                raise
            raise self.refusal(error) from error
        finally:
            if "connector" in self.__dict__:
                self.connector.close()

    def refusal(self, error: Exception) -> LandingError:
        """Translate an error of the stock sinks, too."""
        if not _is_of_stock(error):
            return super().refusal(error)
        if self.point.state == UNKNOWN:
            return WarehouseError(f"The connection was lost. {self.point.unknown}")
        stock = _stock()
        then = stock.not_landed() if self._received else "Fix the cause, then run again."
        return WarehouseError(f"The warehouse rejected the tap's data: {stock.reason(error)}. Nothing was committed. "
                              f"{then}")

    def commit(self) -> None:
        """Load the landed streams if the completion message confirms them; commit those of the stock sink."""
        if self._received:
            self._check_counts(self._received)
        if self.sinks or (self.completion and self.completion.sources):
            for sink in self.sinks.values():
                sink.finish()
            self._load(self.verified_files(self.sinks))
        if self.active_sinks.keys() - self.sinks.keys():
            self.connector.commit(self.point)

    def _check_counts(self, received: Mapping[str, int]) -> None:
        sent = self.streams_sent(received)
        for stream, rows in received.items():
            if sent[stream].rows != rows:
                raise IncompleteInputError(f"{stream}: the tap sent {sent[stream].rows} rows, and {rows} arrived. "
                                           "Nothing was committed. Run again.")

    def _load(self, files: Mapping[str, list[File]]) -> None:
        day, sources = self.completion.extracted_at, self.completion.sources
        if day is None or sources is None:
            raise IncompleteInputError("The tap's completion message lacks the date or the sources. Nothing was "
                                       "loaded. Run again.")
        refuse_future(day, "extracted_at")
        loads = {stream: (self._load_of(sink, files[stream], day), list(zip(sink.objects, files[stream], strict=True)))
                 for stream, sink in self.sinks.items()}
        files = migrations.migrations(self.config.get(migrations.SETTING))
        job = LoadJob(self._connect, self.config["default_target_schema"], day, self.config, self.point, logger, files)
        job.run(sources, loads, reload=bool(self.config.get("reload")) or flag("RELOAD"),
                left_out=self.completion.left_out_sources, without_data=self.completion.without_data)

    def _connect(self) -> Any:
        return connect(self.connection_arguments, self.name, self.config["stall_timeout"])

    def _load_of(self, sink: FileSink, files: list[File], day: date) -> Load:
        metadata = sink.stream_metadata
        if metadata.extracted_at != day:
            raise DamagedError(f"Stream {sink.stream_name} is of {metadata.extracted_at}; the tap loads {day}. Nothing "
                               "was loaded. Run again.")
        table = Table(
            stream=sink.stream_name, name=metadata.table or sink.stream_name, schema=metadata.schema,
            columns=sink.columns, primary_key=metadata.primary_key, files=files, comment=metadata.comment,
            foreign_keys=metadata.foreign_keys)
        return Load(metadata.source, day, metadata.run_id, metadata.taken_at, table,
                    whole=metadata.whole, chain=self._chain(metadata.whole, metadata.primary_key))

    def _chain(self, whole: Whole | None, key: list[str]) -> Chain | None:
        if not (whole and whole.links):
            return None
        parts = [Part(link.columns, [(self._files.at(url), file)
                                     for url, file in zip(link.urls, link.files, strict=True)]) for link in whole.links]
        return Chain(parts, key)


def _stock() -> ModuleType:
    from landing.load import stock

    return stock


def _is_of_stock(error: Exception) -> bool:
    """Whether it is an error of SQLAlchemy or psycopg; nothing raises one before they are imported."""
    return "landing.load.stock" in sys.modules and isinstance(error, _stock().ERRORS)
