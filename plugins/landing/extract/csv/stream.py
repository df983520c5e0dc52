"""An entity of CSV files as a Singer stream."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from singer_sdk.helpers.conform import TypeConformanceLevel

from landing.core.errors import SettingError
from landing.core.progress import Progress
from landing.extract.bases import NoBaseError, find_base
from landing.extract.csv.appending import Appending
from landing.extract.csv.entity import CsvEntity
from landing.extract.csv.inference import BITS
from landing.extract.csv.inputs import InputFile
from landing.extract.csv.quarantine import Quarantine
from landing.extract.csv.refused import moved_if_refused
from landing.extract.csv.text import CsvText
from landing.model.inputs import Input
from landing.model.naming import folder_name
from landing.model.schema import File, Table
from landing.protection.columns import NO_PROTECTION, TableProtection, require_columns
from landing.singer.metadata import StreamMetadata
from landing.singer.scratch import scratch
from landing.singer.stream import Extract, LandingStream
from landing.singer.types import json_schema
from landing.storage.base import Prefix
from landing.storage.compression import SUFFIXES

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from landing.extract.csv.tap import TapCSV


class CsvStream(LandingStream):
    """One entity."""

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE

    def __init__(self, tap: TapCSV, declaration: Any, files: Sequence[InputFile]) -> None:
        self.declaration, self._files = declaration, files
        self._texts = [CsvText(one.place, declaration.encoding, one.name) for one in files]
        with self._refusals(tap):
            self._entity = CsvEntity(declaration, self._texts)
        columns = self._entity.columns()
        schema = {"properties": {column.name: json_schema(column) for column in columns}}
        super().__init__(tap, schema, declaration.entity)
        self.primary_keys = self._entity.keys
        if self._quarantines and not self.get_batch_config(self.config):
            raise SettingError(
                f"tap-csv, entity {self.name}: on_bad_rows or on_duplicate_key is quarantine, which needs a landed "
                "table, but use_batch: false or stream_maps sends RECORD messages. Set on_bad_rows: fail, and "
                "on_duplicate_key: fail or keep_first, and run again."
            )

    def _refusals(self, tap: TapCSV) -> AbstractContextManager[None]:
        """Context in which a refused file is moved, if this process is to move anything."""
        new = [text for text, one in zip(self._texts, self._files, strict=True) if not one.moved]
        return moved_if_refused(self.declaration, new if tap.acts else [], tap.source, tap.run_id)

    @property
    def inputs(self) -> list[Input]:
        """The files that were read, and where they are to be."""
        return [Input(one.name, text.size, text.version, one.done, one.moved)
                for text, one in zip(self._texts, self._files, strict=True) if one.done]

    @property
    def _quarantines(self) -> bool:
        return "quarantine" in (self.declaration.on_bad_rows, self.declaration.on_duplicate_key)

    @property
    def stream_metadata(self) -> StreamMetadata:
        table = self.table
        return msgspec.structs.replace(
            super().stream_metadata, source=self.tap.source, lands=self.tap.date, declared_types=table.declared_types,
            lossy=table.lossy, duplicates=table.duplicates, quarantine=table.quarantine, converted=table.converted)

    @property
    def names(self) -> list[str]:
        """All columns, selected or not."""
        return self._entity.names

    @property
    def names_by_column(self) -> dict[str, set[str]]:
        """The columns of the files and derived ones, and the names that may mean each: also the header's."""
        names, header = self._entity.names[:self._entity.width], self._entity.header
        return {name: {name, *header[index:index + 1]} for index, name in enumerate(names)}

    @property
    def size(self) -> int:
        """Bytes of the CSV files."""
        return self._entity.size

    @cached_property
    def _converted(self) -> Extract:
        """The converted file. SCHEMA needs it: types are known only when all rows are read."""
        entity = self._entity
        columns, protection = self.selected_columns(entity.columns()), self.tap.protections.get(self.name)
        dropped = protection.dropped(columns) if protection else []
        wanted = [column.name for column in columns if column.name not in dropped]
        require_columns(self.name, wanted)
        folder = self.tap.staging if self.get_batch_config(self.config) else self.tap.scratch
        name = folder_name(self.name)
        target = folder.file(name, SUFFIXES[self.config["compression"]])
        bad = Quarantine(folder.file(name, ".jsonl"), self.declaration.max_bad_rows,
                         protection) if self._quarantines else None
        if again := sum(one.moved for one in self._files):
            logger.info("%s: %d files that %s has landed are read again, from where they were moved to.", self.name,
                        again, self.tap.date)
        with self._refusals(self.tap), scratch() as decoded:
            progress = Progress(logger, self.name, size=entity.size)
            appending = self._appending(protection)
            columns, copied = entity.convert(
                wanted, Path(decoded), target, progress,
                bad if self.declaration.on_bad_rows == "quarantine" else None,
                bad if self.declaration.on_duplicate_key == "quarantine" else None, self._types_before(), protection,
                appending)
        progress.done(copied.rows)
        if entity.converted:
            logger.info("%s: values are converted, as declared, in %s.", self.name, ", ".join(entity.converted))
        file = File.at(target, copied.rows, copied.bytes, copied.sha256)
        key = [name for name in self.primary_keys if name in wanted]
        total = appending and appending.base.rows + copied.rows - entity.replacing
        table = Table(stream=self.name, name=self.name, columns=columns, primary_key=key, files=[file],
                      declared_types=bool(self.declaration.values.types or entity.converted),
                      converted=entity.converted, quarantine=bad and bad.close(),
                      lossy=self.declaration.lossy, duplicates=entity.duplicates, dropped=dropped,
                      appended=self._appends, increment=appending and appending.base.increment(total))
        return Extract(table, [target])

    @property
    def _appends(self) -> bool:
        return self.declaration.load == "append"

    def _appending(self, protection: TableProtection | None) -> Appending | None:
        """What the rows are added to; None: they are the whole table.

        Raises:
            SettingError: Rows cannot be added by these settings.
            DamagedError: The base, or what it stands on, is not what was landed.
        """
        if not self._appends:
            return None
        if self.mapped:
            raise self._cannot_append("stream_maps change its rows")
        try:
            base = find_base(self.tap.earlier_dates, self.tap.source, self.tap.date, self.name)
        except NoBaseError:
            return None
        key, day = [*self.primary_keys], base.last.manifest.extracted_at
        if base.last.table.primary_key != key:
            raise self._cannot_append(f"its keys changed since {day}, from {base.last.table.primary_key} to {key}")
        if protection and (hidden := [name for name in key if name in protection.methods]):
            raise self._cannot_append(f"its key is protected ({', '.join(hidden)}), so it cannot be compared")
        for link in base.links:
            if differ := (protection or NO_PROTECTION).differing(link.table, self.names):
                raise self._cannot_append(f"the protection of {', '.join(differ)} or the key of its tokens changed "
                                          f"since {link.manifest.extracted_at}")
        return Appending(base, key)

    def _cannot_append(self, why: str) -> SettingError:
        return SettingError(f"tap-csv, entity {self.name}: load is append, but {why}. Nothing of this source's date "
                            "was committed. Correct it under tap-csv in meltano.yml, or land a file with all rows by "
                            f"`load: replace`. Then run: {self.tap.retry_command}")

    def _types_before(self) -> dict[str, str]:
        """Types that were inferred from values of the latest earlier date."""
        if not self.get_batch_config(self.config):
            return {}
        # None if it is damaged, which a load of that date reports.
        manifest = self.tap.landing_zone.before(self.tap.source, self.tap.date - timedelta(days=1))
        tables = [table for table in manifest.tables if table.stream == self.name] if manifest else []
        types = {column.name: column.protection.type if column.protection else column.type
                 for table in tables for column in table.columns if column.evidence}
        return {name: type_ for name, type_ in types.items() if type_ in BITS}

    @property
    def table(self) -> Table:
        return self._converted.table

    def extract(self, folder: Prefix) -> Extract:
        return self._converted
