"""CSV files -> Singer; and, in the environment `load`, one date of the landing zone -> Singer.

In `load` there is no list of tables anywhere: every declared source's manifest says what there is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from singer_sdk import typing as th
from singer_sdk.helpers.conform import TypeConformanceLevel

from landing import csv_types, database, dialect, files, project, protocol, zone
from landing.errors import CatalogError, DamagedError, SettingError
from landing.quarantine import Quarantine

BAD_ROWS = ["fail", "quarantine"]
DUPLICATES = ["fail", "keep_first", "quarantine"]


class CsvStream(protocol.LandingStream):
    """An entity: one file or several of one header."""

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(self, tap: TapCSV, declaration: Any) -> None:
        from landing.csv_files import CsvEntity

        self.declaration = declaration
        self._entity = CsvEntity(declaration)
        columns = self._entity.columns()
        schema = {"properties": {column.name: dialect.json_schema(column) for column in columns}}
        super().__init__(tap, schema, declaration.entity)
        self.primary_keys = declaration.keys
        if self._quarantines and not self.get_batch_config(self.config):
            raise SettingError(
                f"tap-csv, entity {self.name}: on_bad_rows or on_duplicate_key is quarantine, which lies beside the "
                "landed table, and rows that go as RECORDs (use_batch: false, stream_maps) are not landed by us. Set "
                "on_bad_rows: fail, and on_duplicate_key: fail or keep_first."
            )

    @property
    def _quarantines(self) -> bool:
        return "quarantine" in (self.declaration.on_bad_rows, self.declaration.on_duplicate_key)

    @property
    def mark(self) -> dict[str, Any]:
        quarantine = self.table.quarantine
        return {"source": self._tap.source, "declared_types": bool(self.declaration.types),
                **({"lossy": True} if self.declaration.lossy else {}),
                **({"duplicates": self.table.duplicates} if self.table.duplicates else {}),
                **({"quarantine": quarantine.to_dict()} if quarantine else {})}

    @property
    def names(self) -> list[str]:
        """All columns of the files, selected or not."""
        return self._entity.names

    @property
    def size(self) -> int:
        """Bytes of the files as they came."""
        return self._entity.size

    @cached_property
    def _converted(self) -> protocol.Extract:
        """The file in our dialect: types are known only when all of it is read, so SCHEMA waits for it."""
        entity = self._entity
        wanted = [column.name for column in self.selected_columns(entity.columns())]
        folder = self._tap.staging if self.get_batch_config(self.config) else self._tap.scratch
        name = zone.folder_name(self.name)
        path = folder / (name + files.SUFFIXES[self.config["compression"]])
        bad = Quarantine(folder / f"{name}.jsonl", self.declaration.max_bad_rows) if self._quarantines else None
        with protocol.scratch() as decoded:
            progress = database.Progress(self.logger, self.name, size=entity.size)
            columns, copied = entity.convert(
                wanted, Path(decoded), path, progress,
                bad if self.declaration.on_bad_rows == "quarantine" else None,
                bad if self.declaration.on_duplicate_key == "quarantine" else None, self._types_before())
        progress.done(copied.rows)
        file = zone.File.at(path, copied.rows, copied.bytes, copied.sha256)
        key = [name for name in self.primary_keys if name in wanted]
        table = zone.Table(self.name, self.name, None, columns, key, [file], None, bool(self.declaration.types),
                           quarantine=bad and bad.close(),
                           lossy=self.declaration.lossy, duplicates=entity.left_out)
        return protocol.Extract(table, [path])

    def _types_before(self) -> dict[str, str]:
        """Types that the newest date before this one has for the table's columns, where values told them."""
        if not self.get_batch_config(self.config):
            return {}
        source, landing_zone = self._tap.source, self._tap.landing_zone
        earlier = [day for name, day in landing_zone.landed() if name == source and day < self._tap.date]
        try:
            manifest = landing_zone.manifest(source, max(earlier)) if earlier else None
        except DamagedError:
            return {}  # a load of that date says so
        tables = [table for table in manifest.tables if table.stream == self.name] if manifest else []
        return {column.name: column.type for table in tables for column in table.columns
                if column.evidence and column.type in csv_types.BITS}

    @property
    def table(self) -> zone.Table:
        return self._converted.table

    def extract(self, folder: Path) -> protocol.Extract:
        return self._converted


class LandedStream(protocol.LandingStream):
    """A table of a landed date."""

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(self, tap: TapCSV, manifest: zone.Manifest, table: zone.Table) -> None:
        self.manifest, self._table = manifest, table
        names = [column.name for column in table.columns]
        source, day = (protocol.unused_name(name, names) for name in ("source", "extracted_at"))
        self.constants = {source: manifest.source, day: manifest.extracted_at.isoformat()}
        self._day = day
        schema = {"properties": {column.name: dialect.json_schema(column) for column in table.columns}}
        super().__init__(tap, self.conform(schema), table.stream)
        self.primary_keys = self.message_keys(table)

    @property
    def table(self) -> zone.Table:
        return self._table

    @property
    def mark(self) -> dict[str, Any]:
        """Which date of which source, and which run and moment it is of."""
        manifest = self.manifest
        return {
            "source": manifest.source,
            "extracted_at": manifest.extracted_at.isoformat(),
            "run_id": manifest.run_id,
            "taken_at": manifest.taken_at.isoformat(),
            "primary_key": self._table.primary_key,
        }

    def message_keys(self, table: zone.Table) -> list[str]:
        """The date belongs to the key: a target that upserts keeps the dates apart."""
        return [self._day, *table.primary_key] if table.primary_key else []

    def conform(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Partition values, as Hive has them in the path."""
        source, day = self.constants
        schema["properties"][source] = {"type": ["string"], "const": self.constants[source]}
        schema["properties"][day] = {"type": ["string"], "format": "date", "const": self.constants[day]}
        return schema

    def get_records(self, context: Any) -> Iterator[dict[str, Any]]:
        """Rows leave when the files are what was landed: who gets rows has no hash to check."""
        for path, file in zip(self.extract(self._tap.scratch).paths, self._table.files, strict=True):
            if (found := files.sha256(path)) != file.sha256:
                raise DamagedError(
                    f"{path}: expected SHA-256 {file.sha256}, found {found}. Nothing of it was sent. Run again: "
                    f"REEXTRACT=true {project.extract_command(self.manifest.source, self.manifest.extracted_at)}")
        return super().get_records(context)

    def extract(self, folder: Path) -> protocol.Extract:
        """The landed files where they lie; who reads them checks their hashes."""
        landing_zone = self._tap.landing_zone
        return protocol.Extract(self._table, [landing_zone.path(self.manifest, file) for file in self._table.files])


class TapCSV(protocol.LandingTap):
    """Singer tap for CSV files, and for a date of the landing zone."""

    name = "tap-csv"
    package_name = "landing"
    dynamic_catalog = True  # settings are checked at discovery already
    config_jsonschema = th.PropertiesList(
        th.Property(
            "files",
            th.ArrayType(
                th.ObjectType(
                    th.Property("entity", th.StringType, required=True, description="Name of the table."),
                    th.Property("path", th.StringType, required=True, description="A file, a folder or a pattern."),
                    th.Property("keys", th.ArrayType(th.StringType), description="Columns of the primary key."),
                    th.Property("delimiter", th.StringType, description="Unset: as the header has it."),
                    th.Property("encoding", th.StringType, description="Unset: by byte order mark, else UTF-8."),
                    th.Property("quote", th.StringType, description='Unset: `"`.'),
                    th.Property("escape", th.StringType, description="What escapes a quote. Unset: the quote itself."),
                    th.Property("types", th.ObjectType(additional_properties=th.StringType),
                                description="SQL types by column. Unset: inferred, never lossily."),
                    th.Property("lossy", th.BooleanType,
                                description="Take values that their declared type does not hold exactly."),
                    th.Property("rename", th.ObjectType(additional_properties=th.StringType),
                                description="New names of columns, by their name in the header."),
                    th.Property("on_duplicate_key", th.StringType, allowed_values=DUPLICATES,
                                description="For this entity."),
                    th.Property("on_bad_rows", th.StringType, allowed_values=BAD_ROWS, description="For this entity."),
                    th.Property("max_bad_rows", th.IntegerType(minimum=0), description="For this entity."),
                    additional_properties=False,
                )
            ),
            default=[],
            description="The CSV files of this source.",
        ),
        th.Property("on_duplicate_key", th.StringType, allowed_values=DUPLICATES, default="fail",
                    description="What to do with a row that has the key of an earlier row: `fail`, leave it out and "
                    "count it (`keep_first`), or put it with the bad rows (`quarantine`)."),
        th.Property("on_bad_rows", th.StringType, allowed_values=BAD_ROWS, default="fail",
                    description="What to do with a row that cannot be landed: `fail`, or put it into a file beside the "
                    "table (`quarantine`)."),
        th.Property("max_bad_rows", th.IntegerType(minimum=0), default=1000,
                    description="More bad lines than these in one entity fail all the same."),
        th.Property("from_landing", th.BooleanType, default=False,
                    description="Read one landed date of all sources instead of `files`."),
        th.Property("extracted_at", th.StringType,
                    description="That date, YYYY-MM-DD. Unset: EXTRACTED_AT, else today in UTC."),
        th.Property("sources", th.ArrayType(th.StringType),
                    description="Sources that a load takes. Unset: one for each job extract_<source>."),
        protocol.SOURCE,
        protocol.LANDING_ROOT,
        protocol.USE_BATCH,
        protocol.COMPRESSION,
        protocol.DISK_HEADROOM,
    ).to_dict()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        config = kwargs.get("config") or {}
        if config.get("from_landing"):
            self.date = project.run_date("EXTRACTED_AT", config.get("extracted_at"))
        else:
            self.date = project.run_date("DATESTAMP")
        super().__init__(*args, **kwargs)

    @property
    def source(self) -> str:
        """Name of this source."""
        return project.source_name(self.config.get("source"), project.stock_source("csv"))

    @property
    def again(self) -> str:
        if not self.config["from_landing"]:
            return super().again
        return project.load_command(self.date, os.environ.get("SCHEMA", "public"))

    @property
    def landing_zone(self) -> zone.LandingZone:
        return zone.LandingZone(project.landing_root(self.config.get("landing_root")))

    @cached_property
    def scratch(self) -> Path:
        """A folder of this process, for rows that go as RECORDs."""
        return protocol.scratch_folder()

    @cached_property
    def manifests(self) -> list[zone.Manifest]:
        """Of every declared source; one that isn't landed is refused with the command that lands it."""
        sources = self.config.get("sources") or project.declared_sources()
        if not sources:
            raise SettingError("meltano.yml declares no source: it has no job named extract_<source>.")
        return [self.landing_zone.require(source, self.date) for source in sources]

    def discover_streams(self) -> Sequence[protocol.LandingStream]:
        """The declared entities, or every table of the date."""
        if not self.config["from_landing"]:
            from landing.csv_files import declarations

            defaults = {name: self.config[name] for name in ("on_duplicate_key", "on_bad_rows", "max_bad_rows")}
            return [CsvStream(self, declaration) for declaration in declarations(self.config["files"], **defaults)]
        streams: dict[str, LandedStream] = {}
        for manifest in self.manifests:
            for table in manifest.tables:
                other = streams.setdefault(table.stream, LandedStream(self, manifest, table))
                if other.manifest is not manifest:
                    raise SettingError(
                        f"Sources {other.manifest.source} and {manifest.source} both have a table {table.stream}. "
                        "Rename one (an entity in meltano.yml, or with filter_schemas), and land it again."
                    )
        return list(streams.values())

    @property
    def needs_catalog(self) -> bool:
        """A landed date is loaded whole."""
        return not self.config["from_landing"]

    def _require_whole_catalog(self) -> None:
        """Refuse a catalog that lacks a table: to leave one out on purpose is to deselect it."""
        given = self.input_catalog
        if given is not None and (missing := sorted(self.streams.keys() - given.keys())):
            having = "the landed date has" if self.config["from_landing"] else "tap-csv declares"
            raise CatalogError(
                f"The catalog lacks {', '.join(missing)}, which {having}. Nothing was landed or loaded. Discover it "
                f"anew by running again: {self.again}. To leave a table out, deselect it by `select` in meltano.yml."
            )

    def sync_all(self) -> None:
        """Sync all streams, unless the date is one that stays as it is."""
        self._require_whole_catalog()
        if self.config["from_landing"]:
            for stream in self.streams.values():  # a date is loaded whole, whatever a catalog selects
                stream.selected = True
        elif self.config["use_batch"] and not self.keep_if_frozen():
            self.require_room(sum(stream.size for stream in self.streams.values() if stream.selected))
        super().sync_all()

    def closing(self) -> dict[str, Any]:
        """In `load`: the date and the sources that this is the whole of."""
        if not self.config["from_landing"]:
            return self.landed_closing({stream.name: stream.names for stream in self.streams.values()})
        return {"extracted_at": self.date.isoformat(), "sources": [manifest.source for manifest in self.manifests]}


def main() -> None:
    """Entry point."""
    protocol.run(TapCSV)
