"""Landing zone -> Singer: the tap of a load, for one date.

The tables come from the manifests of all sources of the date; they are not listed anywhere else.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs
from singer_sdk import typing as th
from singer_sdk.helpers.conform import TypeConformanceLevel

from landing.core.commands import how_to_repair, load_command
from landing.core.dates import run_date
from landing.core.errors import DamagedError, NotLandedError, SettingError
from landing.core.settings import landing_root
from landing.core.slips import environment, other_date
from landing.model.manifest import Manifest
from landing.model.schema import Table
from landing.model.whole import Partition, Whole
from landing.singer.metadata import StreamMetadata, unused_name
from landing.singer.scratch import scratch
from landing.singer.settings import EXTRACTED_AT, FROM_LANDING, LANDING_ROOT, SOURCES, USE_BATCH
from landing.singer.stream import Extract, LandingStream
from landing.singer.tap import LandingTap
from landing.singer.types import json_schema, records
from landing.storage import hashing
from landing.storage.base import Prefix
from landing.storage.finding import local_file
from landing.zone.chains import Link, ReadOnce, all_columns, chain
from landing.zone.landed_date import LandedDate
from landing.zone.landing_zone import LandingZone


class LandedStream(LandingStream):
    """A table of a landed partition."""

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(self, tap: TapLanding, manifest: Manifest, table: Table, links: Sequence[Link] = ()) -> None:
        """`table`: with the stream's name, if that differs. `links`: of its chain, if it was landed in increments."""
        self.manifest, self.links = manifest, links
        self._table = structs.replace(table, columns=all_columns(links)) if links else table
        table = self._table
        names = [column.name for column in table.columns]
        source, day = (unused_name(name, names) for name in ("source", "extracted_at"))
        self.constants = {source: manifest.source, day: manifest.extracted_at.isoformat()}
        self._day = day
        schema = {"properties": {column.name: json_schema(column) for column in table.columns}}
        super().__init__(tap, self.conform(schema), table.stream)
        self.primary_keys = self.message_keys(table)

    @property
    def table(self) -> Table:
        return self._table

    @property
    def stream_metadata(self) -> StreamMetadata:
        manifest = self.manifest
        return msgspec.structs.replace(
            super().stream_metadata, source=manifest.source, extracted_at=manifest.extracted_at,
            run_id=manifest.run_id, taken_at=manifest.taken_at, primary_key=self._table.primary_key,
            whole=self._whole() if self.links else None)

    def _whole(self) -> Whole:
        zone, table, one = self.tap.landing_zone, self._table, self._table.increment
        batches = self.get_batch_config(self.config) is not None
        parts = [Partition(link.table.columns, link.table.files, [zone.file(link.manifest, file).url
                                                                  for file in link.table.files])
                 for link in self.links if batches]
        return Whole(rows=table.total_rows, sha256=table.chain_sha256, base=one.base, base_run_id=one.base_run_id,
                     links=parts)

    def message_keys(self, table: Table) -> list[str]:
        """The source's key after the partition key: a target that upserts then keeps dates apart."""
        return [self._day, *table.primary_key] if table.primary_key else []

    def conform(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Add the partition values as constant columns, as Hive does for paths."""
        source, day = self.constants
        schema["properties"][source] = {"type": ["string"], "const": self.constants[source]}
        schema["properties"][day] = {"type": ["string"], "format": "date", "const": self.constants[day]}
        return schema

    def get_records(self, context: Any) -> Iterator[dict[str, Any]]:
        """Verify the files first: a target that receives RECORDs has no hash to check."""
        if self.links:
            yield from self._merged_records()
            return
        for one, file in zip(self.extract(self.tap.staging).objects, self._table.files, strict=True):
            if (found := hashing.sha256(one)) != file.sha256:
                raise DamagedError(
                    f"{one}: expected SHA-256 {file.sha256}, found {found}. Nothing of it was sent. "
                    f"{how_to_repair(self.manifest.source, self.manifest.extracted_at)}")
        yield from super().get_records(context)

    def _merged_records(self) -> Iterator[dict[str, Any]]:
        """All rows of a table that was landed in increments."""
        from landing.zone.merging import merge  # here: it imports DuckDB

        with scratch() as folder:
            place = local_file(Path(folder) / "rows.csv")
            merge(self.tap.landing_zone, self.links, place, folder)
            yield from records(place, self._table.columns, self.constants)

    def extract(self, folder: Prefix | None) -> Extract:
        """The landed files in place; the target verifies their hashes while reading."""
        landing_zone = self.tap.landing_zone
        return Extract(self._table, [landing_zone.file(self.manifest, file) for file in self._table.files])


class TapLanding(LandingTap):
    """Singer tap for one date of the landing zone, with all its sources."""

    name = "tap-csv"
    package_name = "landing"
    dynamic_catalog = True  # validates settings at discovery
    needs_catalog = False  # a landed date is always loaded completely
    staging = None  # writes no files: landed files are read in place
    config_jsonschema = th.PropertiesList(FROM_LANDING, EXTRACTED_AT, SOURCES, LANDING_ROOT, USE_BATCH).to_dict()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.date = run_date("EXTRACTED_AT", (kwargs.get("config") or {}).get("extracted_at"))
        super().__init__(*args, **kwargs)

    @property
    def retry_command(self) -> str:
        return load_command(self.date, os.environ.get("SCHEMA", "public"))

    @cached_property
    def landing_zone(self) -> LandingZone:
        """The landing zone of the settings."""
        return LandingZone.at(landing_root(self.config.get("landing_root")))

    @cached_property
    def manifests(self) -> list[Manifest]:
        """Manifests of all sources of the date.

        Raises:
            NotLandedError: One is not landed.
        """
        try:
            return self._manifests()
        except NotLandedError as error:
            raise NotLandedError(f"{error}{self._slip()}") from error

    def _manifests(self) -> list[Manifest]:
        if sources := self.config.get("sources"):
            return [self.landing_zone.require(source, self.date) for source in sources]
        for source in self.landed_date.removed:
            self.logger.warning("%s is left out: it was a source on %s, but is not landed, and meltano.yml no longer "
                                "declares it.", source, self.date)
        return self.landed_date.manifests()

    def _slip(self) -> str:
        """What to add to a refusal if it may be an extract in the environment of a load that was refused."""
        if not (slip := other_date("EXTRACTED_AT")):
            return ""
        return (f". {slip} To extract that date, set MELTANO_ENVIRONMENT=extract ({environment()}, in which tap-csv "
                "reads the landing zone); to load it, set EXTRACTED_AT.")

    @cached_property
    def landed_date(self) -> LandedDate:
        """The date in the landing zone."""
        return LandedDate(self.landing_zone, self.date)

    def discover_streams(self) -> Sequence[LandingStream]:
        """All tables of the date."""
        counts = Counter(table.stream for manifest in self.manifests for table in manifest.tables)
        streams: dict[str, LandedStream] = {}
        zone = ReadOnce(self.landing_zone.storage)
        for manifest in self.manifests:
            for table in manifest.tables:
                shared = counts[table.stream] > 1
                # Third-party targets read such a name as database-schema-table.
                name = f"{manifest.source}-{table.stream}" if shared else table.stream
                named = structs.replace(table, stream=name)
                links = chain(zone, manifest, table) if table.increment else ()
                if streams.setdefault(name, LandedStream(self, manifest, named, links)).manifest is not manifest:
                    raise SettingError(
                        f"Two tables would both be the stream {name}; one is {table.stream} of {manifest.source}. "
                        "Rename one (the entity in meltano.yml) or exclude it (filter_schemas), then extract again."
                    )
        return list(streams.values())

    def sync_all(self) -> None:
        """Sync all streams, whatever the catalog selects: a date is always loaded completely."""
        if slip := other_date("EXTRACTED_AT"):
            self.logger.warning("%s To load that date, set EXTRACTED_AT to it.", slip)
        self.require_whole_catalog("the landed date has")
        for stream in self.streams.values():
            stream.selected = True
        super().sync_all()

    def closing(self) -> dict[str, Any]:
        """The date and the sources that this is the whole of."""
        return {"extracted_at": self.date, "sources": [manifest.source for manifest in self.manifests],
                "left_out_sources": [] if self.config.get("sources") else self.landed_date.without,
                "without_data": {manifest.source: sorted(manifest.left_out) for manifest in self.manifests
                                 if manifest.left_out}}
