"""Exports a landed partition as Parquet to another root, in the same layout with a manifest of its own."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from msgspec import structs

from landing.core.dates import now
from landing.core.errors import DamagedError, SettingError, UnknownOutcomeError, ZoneError
from landing.core.progress import Progress
from landing.export import manifest as exported
from landing.export.conversion import Landed, RefusedValueError, convert, refused
from landing.export.manifest import FORMAT_VERSION, ExportedTable, ExportManifest, Origin
from landing.export.mapping import Target, targets
from landing.model.manifest import UNUSABLE, Manifest
from landing.model.naming import folder_name, new_run_id
from landing.model.schema import File, Table
from landing.storage.base import Object
from landing.zone import layout
from landing.zone.assembly import software
from landing.zone.landing_zone import LandingZone
from landing.zone.merging import whole
from landing.zone.publishing import Publication, content_of, reading

SUFFIX = ".parquet"
EXPORTED, REPLACED, THERE = "exported", "replaced", "already there"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """What became of one partition. `outcome`: EXPORTED, REPLACED or THERE; `as_text`: columns that are not typed."""

    source: str
    extracted_at: date
    tables: int
    rows: int
    bytes: int
    landed_run_id: str
    as_text: int
    outcome: str


def refuse_landing_zone(target: LandingZone) -> None:
    """Raise SettingError for a root that CSV files are landed in: one manifest cannot be of both."""
    if layout.RUN_LOGS in target.storage.prefixes(""):
        raise SettingError(f"--to {target.storage.describe()} is a landing zone. Give a root of its own to Parquet.")


class PartitionExport:
    """One partition on its way to Parquet."""

    def __init__(self, origin: LandingZone, target: LandingZone, source: str, day: date) -> None:
        self.origin, self.target, self.source, self.day = origin, target, source, day
        self.run_id = new_run_id()

    def run(self) -> Exported:
        """Export it, unless it is there from the same landed run.

        Raises:
            NotLandedError: It is not landed.
            DamagedError: It is not what was landed. Nothing was committed there.
            ZoneError: It was replaced meanwhile, or the other root cannot be used.
            UnknownOutcomeError: The export may be committed.
        """
        landed = self.origin.require(self.source, self.day)
        of = Origin(landed.run_id, landed.taken_at, json.loads(content_of(self.origin, landed))["sha256"])
        there = self._there()
        if there and self._is_whole(there, of):
            return self._result(there, THERE)
        may_be_listed = False
        try:
            tables, files = self._tables(landed)
            new = ExportManifest(self.source, self.day, self.run_id, now(), of, software(), tables)
            content_of(self.origin, landed)  # it is still what was read
            may_be_listed = Publication(self.target, self.source, self.day, self.run_id, files, new.encode()).publish(
                lambda: self._replaced(of))
        except UnknownOutcomeError:
            may_be_listed = True
            raise
        finally:
            if may_be_listed:
                self.target.discard(self.run_id)
            else:
                self.target.withdraw(self.run_id, self.source, self.day)
        return self._result(new, THERE if not may_be_listed else REPLACED if there else EXPORTED)

    def _result(self, manifest: ExportManifest, outcome: str) -> Exported:
        as_text = sum(column.as_text is not None for table in manifest.tables for column in table.columns)
        return Exported(self.source, self.day, len(manifest.tables), sum(table.rows for table in manifest.tables),
                        sum(file.bytes for file in manifest.all_files), manifest.landed.run_id, as_text, outcome)

    # What is there

    def _there(self) -> ExportManifest | None:
        try:
            return exported.read(self.target.storage, self.source, self.day)
        except UNUSABLE as error:
            where = self.target.storage.describe(layout.manifest(self.source, self.day))
            raise ZoneError(f"{where} is not the manifest of an export ({type(error).__name__}: {error!s:.200}). "
                            "Nothing was changed. Give another root or, if it is a damaged export, remove it, and run "
                            "again.") from None

    def _is_whole(self, there: ExportManifest, of: Origin) -> bool:
        """Whether an export is of this landed run, with each file in its full size."""
        if (there.landed, there.format_version) != (of, FORMAT_VERSION):
            return False
        with contextlib.suppress(DamagedError):
            for file in there.all_files:
                self.target.file(there, file)
            return True
        return False

    def _replaced(self, of: Origin) -> Collection[str] | None:
        """Keys of the files that the export there lists; None if it is whole and of the same landed run."""
        there = self._there()
        if there and self._is_whole(there, of):
            return None
        return [f"{layout.partition(self.source, self.day)}/{file.path}" for file in there.all_files] if there else []

    # What is written

    def _tables(self, landed: Manifest) -> tuple[list[ExportedTable], list[tuple[Object, str]]]:
        """Write all tables: their entries, and each file with its final key."""
        tables, files = [], []
        partition = layout.partition(self.source, self.day)
        for table in landed.ordered().tables:
            if not table.columns:
                logger.warning("%s has no columns: there is no such table in Parquet. It is left out.", table.stream)
                continue
            with reading(self.origin, landed), whole(self.origin, landed, table) as (table, places):
                columns, written = self._table(table, places)
            paths = [self._path(table, number) for number in range(len(written))]
            tables.append(ExportedTable.of(table, columns, [
                structs.replace(file, path=path) for (_, file), path in zip(written, paths, strict=True)]))
            files += [(place, f"{partition}/{path}") for (place, _), path in zip(written, paths, strict=True)]
        return tables, files

    def _path(self, table: Table, number: int) -> str:
        several = f"-{number:04}" if len(table.files) > 1 else ""
        return f"{folder_name(table.stream)}/{self.run_id}{several}{SUFFIX}"

    def _table(self, table: Table, places: Sequence[Object]) -> tuple[list[Target], list[tuple[Object, File]]]:
        """Write a table: its columns, and its files. Columns with values that their types do not hold become text."""
        columns = targets(table)
        try:
            files = self._files(table, places, columns)
        except RefusedValueError as error:
            progress = Progress(logger, f"{table.name}, which columns are typed", size=table.bytes)
            bad = set().union(*(refused(one) for one in self._landed(table, places, columns, progress)))
            if not bad:
                raise ZoneError(f"{table.stream} of {self.source} cannot be converted: {error}. Nothing was committed "
                                "there.") from None
            columns = targets(table, bad)
            files = self._files(table, places, columns)
        if texts := [f"{one.column.name} ({one.typed.as_text})" for one in columns if one.typed.as_text]:
            logger.info("%s: as text: %s", table.name, ", ".join(texts))
        if renamed := [f"{one.column.name} as {one.name}" for one in columns if one.name != one.column.name]:
            logger.warning("%s: names that differ only in case from another's: %s", table.name, ", ".join(renamed))
        return columns, files

    def _files(self, table: Table, places: Sequence[Object], columns: list[Target]) -> list[tuple[Object, File]]:
        progress, found = Progress(logger, table.name, size=table.bytes), []
        work = self.target.work(self.run_id, self.source, self.day)
        for number, one in enumerate(self._landed(table, places, columns, progress)):
            place = work.file(folder_name(table.stream), SUFFIX, number if len(table.files) > 1 else None)
            place.delete()  # of the first try
            found.append((place, convert(one, place)))
        progress.done(table.rows)
        return found

    def _landed(self, table: Table, places: Sequence[Object], columns: list[Target],
                progress: Progress) -> Iterator[Landed]:
        for place, file in zip(places, table.files, strict=True):
            yield Landed(place, file, columns, progress.stream())
            progress.close()
