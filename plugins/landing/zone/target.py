"""Singer -> the landing zone: every table of a date in a file, and the manifest that makes the date exist."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import Any

from singer_sdk import Sink
from singer_sdk import typing as th

from landing.core.commands import extract_command
from landing.core.commit_point import PASSED
from landing.core.dates import now, refuse_future, run_date
from landing.core.errors import FrozenError, IncompleteInputError, SettingError, ZoneError
from landing.core.settings import landing_root
from landing.core.sources import checked_source, declared_sources, source_name
from landing.model.manifest import Manifest
from landing.model.naming import new_run_id
from landing.model.schema import File, Table
from landing.singer.settings import COMPRESSION, LANDING_ROOT, SOURCE
from landing.singer.sinks import FileSink
from landing.singer.target import LandingTarget
from landing.storage.base import Claim, Object, Prefix
from landing.storage.urls import at
from landing.zone import layout, replacement, run_log
from landing.zone.commit import commit
from landing.zone.landing_zone import LandingZone
from landing.zone.replacement import KEPT
from landing.zone.run_log import COMMITTED, FAILED, RunLog

logger = logging.getLogger(__name__)


class TargetCSV(LandingTarget):
    """Singer target for a dated landing zone of CSV files."""

    name = "target-csv"
    package_name = "landing"
    default_sink_class = FileSink
    config_jsonschema = th.PropertiesList(
        LANDING_ROOT,
        SOURCE,
        COMPRESSION,
        th.Property(
            "datestamp",
            th.StringType,
            description="The date that is landed, YYYY-MM-DD. Unset: DATESTAMP, else today in UTC.",
        ),
        th.Property(
            "trust_end_of_input",
            th.BooleanType,
            default=False,
            description="Commit at the end of the input although the tap did not prove that it sent everything. For "
            "taps of somebody else: a tap that dies midway then lands half a date.",
        ),
    ).to_dict()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.begun = time.monotonic()
        config = kwargs.get("config") or {}
        self.date = run_date("DATESTAMP", config.get("datestamp"))  # refused before anything is read
        self.run_id = new_run_id()
        self._claims: dict[str, Claim] = {}  # of taps' staging areas, by run id
        super().__init__(*args, **kwargs)
        self.zone = LandingZone.at(landing_root(self.config.get("landing_root")))
        self.started = now()
        self.attempt = RunLog(self.zone.storage, self.run_id, self.date)

    def listen(self, file_input: Any = None) -> None:
        """Take all input, and note how that began and ended. A tap that never got in sends an empty one."""
        self.attempt.begin(self._source_before_input())
        try:
            super().listen(file_input)
        except BaseException as error:
            if self.point.state == PASSED:
                self.attempt.end(COMMITTED, landed=self.run_id, error=type(error).__name__)
            self.attempt.end(FAILED, error=type(error).__name__)
            self.clean_up()
            raise

    def stopped(self) -> None:
        self.attempt.end(FAILED, error="Stopped by a signal")

    @property
    def staging(self) -> Prefix:
        """Where RECORDs are written."""
        return self.zone.staging(self.run_id)

    def accept(self, url: str) -> Object:
        """A file of a BATCH: it has to be in the staging area, from where it is moved."""
        found = self.zone.staged(at(url))
        self._claim(found.key.split("/")[1])
        return found

    def _claim(self, run_id: str) -> None:
        if run_id not in self._claims:
            self._claims[run_id] = self.zone.claim(run_id)

    def get_sink(self, stream_name: str, *, schema: dict | None = None, key_properties: Any = None, **_: Any) -> Sink:
        """One for each stream."""
        sink = self.file_sink(stream_name, schema, key_properties)
        if sink.stream_metadata.replication_method == "INCREMENTAL":
            raise SettingError(
                f"{stream_name}: INCREMENTAL sends the rows that changed since the last run, and a landed date holds "
                "the whole table: it would replace the table by its changes. Nothing was committed. Use FULL_TABLE for "
                "this stream (`replication-method` under `metadata` in meltano.yml), and run again."
            )
        self.attempt.begin(sink.stream_metadata.source)
        return sink

    def commit(self) -> None:
        """Commit the date, if the tap proved that this was all of it."""
        with self.point.working():
            for sink in self.sinks.values():
                sink.finish()
            self._commit_or_keep()
            self.clean_up()

    def clean_up(self) -> None:
        """Remove this run's staging, and what it claimed of the tap's, which may have died without doing so."""
        for run_id in (self.run_id, *self._claims):
            self.zone.discard(run_id)
        while self._claims:
            self._claims.popitem()[1].release()

    @property
    def retry_command(self) -> str:
        return extract_command(self.source, self.date)

    @property
    def source(self) -> str:
        """The source that this run lands, as the tap has resolved it; SettingError where the two differ."""
        told = {sink.stream_metadata.source for sink in self.sinks.values()
                if not sink.stream_metadata.extracted_at}  # a table with it is landed already
        told |= {self.completion and self.completion.source}
        told = {checked_source(name) for name in told if name}
        if len(told) > 1:
            raise SettingError(f"The tap sends streams of several sources ({', '.join(sorted(told))}), and a run lands "
                               "one. Nothing was committed. Run each by a job of its own.")
        name = source_name(self.config.get("source"), next(iter(told), None))
        if told and name not in told:
            raise SettingError(
                f"The tap lands source {told.pop()}, and {self.name} is set to source {name}. Nothing was committed. "
                f"Set `source` for the tap only, and run again: {extract_command(name, self.date)}"
            )
        return name

    def _source_before_input(self) -> str | None:
        """The source, as far as it is known before the tap sends anything."""
        with contextlib.suppress(SettingError):
            return source_name(self.config.get("source") or os.environ.get("MELTANO_EXTRACT_SOURCE"))
        return None

    def _commit_or_keep(self) -> None:
        source = self.source
        self.attempt.begin(source)
        completion = self.completion
        if completion is None and not self.config["trust_end_of_input"]:
            self.verified_files(self.sinks)  # raises
        self._use_date_of_tap(source)
        if completion and completion.kept:
            self._keep(logging.INFO, self._still_landed(source))
            return
        files = self._files()
        if not files:
            raise ZoneError(
                f"The tap sent no table for source {source}. Is anything there that its settings select "
                "(filter_schemas, select), and may its user read it?"
            )
        tables = [self._table(sink, files[stream]) for stream, sink in self.sinks.items()]
        manifest = Manifest(
            source=source, extracted_at=self.date, run_id=self.run_id, taken_at=self._taken_at(),
            seconds=round(time.monotonic() - self.begun, 3), snapshot=completion.snapshot if completion else {},
            software=_software(), tables=tables)
        staged = {table.stream: [*self.sinks[table.stream].objects, *self._quarantine(table)] for table in tables}
        left_out = completion and completion.left_out
        check = partial(replacement.check, self.zone, manifest, self._began(), left_out)
        self.point.done = f"{source} of {self.date} is committed."
        self.point.unknown = (f"`landing show {self.date}` tells whether it is committed; else run again: "
                              f"{self.retry_command}")
        try:
            manifest = commit(self.zone, manifest, staged, check, self.point.passing())
        except FrozenError as frozen:
            self._keep(logging.WARNING, str(frozen))
            return
        self.attempt.end(COMMITTED, landed=manifest.run_id)
        self._say(manifest)

    def _use_date_of_tap(self, source: str) -> None:
        """The tap's date is the run's: where neither was told one, midnight may lie between their starts."""
        day = self.completion and self.completion.extracted_at
        if day in (None, self.date) or self.completion.sources is not None:
            return
        refuse_future(day, "extracted_at")
        if self.config.get("datestamp") or "DATESTAMP" in os.environ:
            raise SettingError(f"The tap extracted {source} for {day}, and {self.name} is told to land {self.date}. "
                               f"Nothing was committed. Run again: {extract_command(source, self.date)}")
        self.attempt.end(FAILED, error=f"the run is of {day}")
        self.date, self.attempt = day, RunLog(self.zone.storage, self.run_id, day)
        self.attempt.begin(source)

    def _keep(self, level: int, why: str) -> None:
        logger.log(level, "%s", why)
        self.attempt.end(run_log.KEPT)
        self._latest_state = None  # these rows are not landed: the tap has to send them again

    def _still_landed(self, source: str) -> str:
        """What to say of a date that the tap found landed and past; ZoneError if it was removed since."""
        if self.zone.manifest(source, self.date) is None:
            raise ZoneError(f"{source} of {self.date} was landed when the tap looked, and is not any more. Nothing was "
                            f"committed; run again: {self.retry_command}")
        return KEPT.format(source, self.date)

    def _began(self) -> datetime:
        """When the run began: by its tap, if that says so."""
        return (self.completion and self.completion.started_at) or self.started

    def _files(self) -> dict[str, list[File]]:
        """Each stream's files. Those that the tap wrote have the hash that it took as they streamed from the source."""
        if self.completion is None:
            if any(sink.written is None for sink in self.sinks.values()):
                raise IncompleteInputError("Files came by BATCH, and no closing message says what they hold. Run "
                                           "again.")
            return {stream: [sink.written] for stream, sink in self.sinks.items() if sink.written}
        files = self.verified_files(self.sinks)
        for stream, sink in self.sinks.items():
            for found, file in zip(sink.objects, files[stream], strict=True):
                if found.size() != file.size:
                    raise IncompleteInputError(f"{found} is not the file that the tap wrote for {stream}. Run again.")
        return files

    def _quarantine(self, table: Table) -> list[Object]:
        """The staged file of a table's bad rows, as the tap left it beside the others."""
        if table.quarantine is None:
            return []
        run_id = self.completion.run_id if self.completion else self.run_id
        self._claim(run_id)
        found = self.zone.staged(self.zone.staging(run_id) / table.quarantine.path)
        if found.size() != table.quarantine.size:
            raise IncompleteInputError(f"{found} is not the file that the tap wrote. Run again.")
        return [found]

    def _taken_at(self) -> datetime:
        return (self.completion and self.completion.taken_at) or self._began()

    def _table(self, sink: FileSink, files: list[File]) -> Table:
        metadata = sink.stream_metadata
        return Table(
            stream=sink.stream_name,
            name=metadata.table or sink.stream_name,
            schema=metadata.schema,
            columns=sink.columns,
            primary_key=[name for name in sink.key_properties if name in {column.name for column in sink.columns}],
            files=files,
            comment=metadata.comment,
            # Another tap's text need not be PostgreSQL's own, as ours is.
            declared_types=metadata.declared_types or not sink.ours,
            foreign_keys=metadata.foreign_keys,
            quarantine=metadata.quarantine,
            lossy=metadata.lossy,
            duplicates=metadata.duplicates,
            not_of_snapshot=metadata.not_of_snapshot,
        )

    def _say(self, manifest: Manifest) -> None:
        partition = layout.partition(manifest.source, self.date)
        logger.info(
            "Landed %s of %s: %d tables, %s rows, %s bytes, in %s",
            manifest.source, self.date, len(manifest.tables), f"{manifest.rows:,}", f"{manifest.bytes:,}",
            self.zone.storage.describe(partition),
        )
        for table in manifest.tables:
            if table.quarantine:
                logger.warning(
                    "%s: %s bad rows are quarantined, and not landed: %s", table.name, f"{table.quarantine.rows:,}",
                    self.zone.storage.describe(f"{partition}/{table.quarantine.path}"),
                )
        if manifest.source not in declared_sources():
            logger.warning(
                "meltano.yml has no job extract_%s, so a load does not take this source.", manifest.source
            )


def _software() -> dict[str, str]:
    packages = ("landing", "singer-sdk", "meltanolabs-tap-postgres", "psycopg2-binary", "duckdb")
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}
