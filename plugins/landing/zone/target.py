"""Singer -> the landing zone: the tables of one source and date become a partition, or nothing does."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from datetime import date, datetime
from functools import partial
from typing import IO, Any

from singer_sdk import Sink
from singer_sdk import typing as th

from landing.core.commands import extract_command
from landing.core.commit_point import BEFORE, PASSED, UNKNOWN
from landing.core.dates import now, refuse_future, run_date
from landing.core.errors import FrozenError, IncompleteInputError, SettingError, UnknownOutcomeError, ZoneError
from landing.core.settings import landing_root
from landing.core.slips import environment
from landing.core.sources import declared_sources, source_name
from landing.model.manifest import Manifest
from landing.model.naming import folder_name, new_run_id
from landing.model.schema import File, Table
from landing.model.summary import Summary
from landing.singer.settings import COMPRESSION, LANDING_ROOT, SOURCE
from landing.singer.signals import STOPPED
from landing.singer.sinks import FileSink
from landing.singer.target import LandingTarget
from landing.storage.base import Claim, Object, Prefix
from landing.storage.hashing import BUFFER
from landing.zone import layout, replacement, run_log
from landing.zone.assembly import software, source_of, table_of
from landing.zone.chains import again, lacking, standing_on
from landing.zone.commit import commit
from landing.zone.landed_date import LandedDate
from landing.zone.landing_zone import LandingZone
from landing.zone.moves import moved_after
from landing.zone.replacement import KEPT
from landing.zone.run_log import COMMITTED, FAILED, RunLog

REPLACE, KEEP = "replace", "keep"
logger = logging.getLogger(__name__)


class TargetCSV(LandingTarget):
    """Singer target for the landing zone."""

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
            description="Date of the partition, YYYY-MM-DD. Unset: DATESTAMP, else today in UTC.",
        ),
        th.Property(
            "runs",
            th.StringType,
            allowed_values=[REPLACE, KEEP],
            default=REPLACE,
            description="What becomes of the run that another of the same date replaces. `replace`: its files are "
            "removed. `keep`: they stay, listed by `_manifest.<run id>.json` beside the newest run's manifest.",
        ),
        th.Property(
            "trust_end_of_input",
            th.BooleanType,
            default=False,
            description="Commit at the end of the input without a completion message from the tap. For taps of other "
            "vendors: if such a tap dies midway, half a partition is landed.",
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
        self.run_log = RunLog(self.zone.storage, self.run_id, self.date)

    def listen(self, file_input: Any = None) -> None:
        """Process all input, and log the start and end of the run. A tap that cannot connect sends nothing."""
        self.run_log.begin(self._source_before_input())
        try:
            self.zone.storage.require_conditions(f"{layout.staging(self.run_id)}/probe")
            super().listen(file_input)
        except FrozenError as frozen:
            self._keep(logging.INFO, str(frozen))
            _drain(file_input or sys.stdin)
            self.clean_up()
        except BaseException as error:
            if self.point.state == PASSED:
                self.run_log.fail(error, outcome=COMMITTED, landed=self.run_id)
            self.run_log.fail(error, of_tap=self.completion is None)
            self.clean_up()
            raise

    def stopped(self) -> None:
        self.run_log.end(FAILED, error=STOPPED)

    @property
    def staging(self) -> Prefix:
        """Where RECORDs are written."""
        return self._work(self.run_id)

    def _work(self, run_id: str) -> Prefix:
        if not self.zone.storage.in_place:
            return self.zone.staging(run_id)  # the source need not be known yet
        return self.zone.work(run_id, self.source, self.date)

    def accept(self, url: str) -> Object:
        """Take a file of a BATCH. It must be in the staging area, from where the commit moves it.

        Raises:
            SettingError: It is landed.
        """
        if landed := [name for name, sink in self.sinks.items() if sink.stream_metadata.extracted_at]:
            raise SettingError(
                f"The tap sends {', '.join(landed)} from the landing zone, and target-csv lands extracts: "
                f"{environment()}, in which tap-csv reads the landing zone. Nothing was committed. Run: "
                f"{extract_command(self._source_before_input() or 'csv', self.date)}")
        run_id, found = self.zone.staged(url)
        self._claim(run_id)
        return found

    def _claim(self, run_id: str) -> None:
        if run_id not in self._claims:
            self._claims[run_id] = self.zone.claim(run_id)

    def get_sink(self, stream_name: str, *, schema: dict | None = None, key_properties: Any = None, **_: Any) -> Sink:
        """The stream's sink.

        Raises:
            SettingError: Our tap takes another date.
            FrozenError: The tap is another vendor's, which cannot know it.
        """
        sink = self.file_sink(stream_name, schema, key_properties)
        if schema is not None:
            self._stop_early(sink)
        self.run_log.begin(sink.stream_metadata.source)
        return sink

    def _stop_early(self, sink: FileSink) -> None:
        """At a SCHEMA: refuse what will not be landed."""
        if not sink.ours and self.zone.frozen(self.source, self.date, self.started):
            raise FrozenError(KEPT.format(self.source, self.date))
        if sink.stream_metadata.lands:
            self._refuse_other_date(sink.stream_metadata.lands)

    def commit(self) -> None:
        """Commit the partition, if the completion message matches what arrived."""
        with self.point.working():
            for sink in self.sinks.values():
                sink.finish()
            self._commit_or_keep()
            self.clean_up()

    def clean_up(self) -> None:
        """Remove what this run, and the tap, which may have died without doing it, left uncommitted."""
        committed = self.point.state != BEFORE  # or may be: then the claim stays, for nobody else to take the files
        for run_id in (self.run_id, *self._claims) if self.point.state != UNKNOWN else ():
            if committed or not (source := self._source_or_none()):
                self.zone.discard(run_id)
            else:
                self.zone.withdraw(run_id, source, self.date)
        while self._claims:
            self._claims.popitem()[1].release()

    def _source_or_none(self) -> str | None:
        with contextlib.suppress(SettingError):
            return self.source
        return None

    @property
    def retry_command(self) -> str:
        return extract_command(self.source, self.date)

    @property
    def source(self) -> str:
        """The source that this run lands."""
        return source_of(self.config.get("source"), self.sinks.values(), self.completion, self.date)

    def _source_before_input(self) -> str | None:
        """The source, if it is known before the tap sends anything."""
        with contextlib.suppress(SettingError):
            return source_name(self.config.get("source") or os.environ.get("MELTANO_EXTRACT_SOURCE"))
        return None

    def _commit_or_keep(self) -> None:
        if self.completion is None and not self.config["trust_end_of_input"]:
            self.verified_files(self.sinks)  # raises, before an unknown source would hide that the tap died
        source = self.source
        self.run_log.begin(source)
        self._use_date_of_tap(source)
        if self.completion and self.completion.kept:
            self._keep(logging.INFO, self._still_landed(source))
            return
        manifest, staged = self._received(source)
        check = partial(replacement.check, self.zone, manifest, self._began(),
                        self.completion and self.completion.left_out)
        self.point.done = f"{source} of {self.date} is committed."
        self.point.unknown = (f"`landing show {self.date}` tells whether it is committed; otherwise run again: "
                              f"{self.retry_command}")
        inputs = self.completion.inputs if self.completion else {}
        replaced = self.zone.readable(source, self.date)
        try:
            with moved_after(self.zone, manifest, inputs, check) as (manifest, check):
                manifest = commit(self.zone, manifest, staged, check, partial(self.point.passing, _outcome_unknown),
                                  keep=self.config["runs"] == KEEP)
                self.run_log.end(COMMITTED, landed=manifest.run_id)
                self._report(manifest)
                self._warn_of_chains(manifest, replaced)
        except FrozenError as frozen:
            self._keep(logging.WARNING, str(frozen))
        except UnknownOutcomeError as error:
            raise UnknownOutcomeError(f"{error} {self.point.unknown}") from error

    def _received(self, source: str) -> tuple[Manifest, dict[str, list[Object]]]:
        """The manifest of what arrived, and each table's staged files."""
        files = self._files()
        if not files:
            raise ZoneError(f"The tap sent no table for source {source}. Do its settings (filter_schemas, select) "
                            "match any table, and may its user read them?")
        completion = self.completion
        sent = completion.streams if completion else {}
        tables = [table_of(sink, files[stream], sent.get(stream)) for stream, sink in self.sinks.items()]
        manifest = Manifest(
            source=source, extracted_at=self.date, run_id=self.run_id,
            taken_at=(completion and completion.taken_at) or self._began(),
            seconds=round(time.monotonic() - self.begun, 3), snapshot=completion.snapshot if completion else {},
            software=software(), tables=tables, left_out=completion.unreadable if completion else {},
            declared=LandedDate(self.zone, self.date).to_record(source, self._began()))
        return manifest, {table.stream: [*self.sinks[table.stream].objects, *self._quarantine(table)]
                          for table in tables}

    def _use_date_of_tap(self, source: str) -> None:
        """Use the tap's date: if neither was given one, midnight may fall between their starts."""
        day = self.completion and self.completion.extracted_at
        if day in (None, self.date) or self.completion.sources is not None:
            return
        refuse_future(day, "extracted_at")
        self._refuse_other_date(day)
        self.run_log.end(FAILED, error=f"the run is of {day}")
        self.date, self.run_log = day, RunLog(self.zone.storage, self.run_id, day)
        self.run_log.begin(source)

    def _refuse_other_date(self, day: date) -> None:
        """Raise SettingError if the tap's date is not the one that this target was given, if it was given one."""
        if day != self.date and (self.config.get("datestamp") or "DATESTAMP" in os.environ):
            raise SettingError(f"The tap extracted {self.source} for {day}, but {self.name} is set to land "
                               f"{self.date}. Nothing was committed. Set the date for both, by DATESTAMP: "
                               f"{extract_command(self.source, self.date)}")

    def _keep(self, level: int, why: str) -> None:
        logger.log(level, "%s", why)
        self.run_log.end(run_log.KEPT)
        self.latest_state = None  # these rows are not landed: the tap must send them again

    def _still_landed(self, source: str) -> str:
        """Why the partition is kept. Raises ZoneError if it was removed since the tap looked."""
        if self.zone.manifest(source, self.date) is None:
            raise ZoneError(f"{source} of {self.date} was landed when the tap looked, and has been removed since. "
                            f"Nothing was committed. Run again: {self.retry_command}")
        return KEPT.format(source, self.date)

    def _began(self) -> datetime:
        """Start of the run: the tap's, if it sent one."""
        return (self.completion and self.completion.started_at) or self.started

    def _files(self) -> dict[str, list[File]]:
        """Each stream's files. The tap hashed those that it wrote while they streamed from the source."""
        if self.completion is None:
            if any(sink.written is None for sink in self.sinks.values()):
                raise IncompleteInputError("Files arrived by BATCH, but no completion message says what they hold. "
                                           "Run again.")
            return {stream: [sink.written] for stream, sink in self.sinks.items() if sink.written}
        files = self.verified_files(self.sinks)
        for stream, sink in self.sinks.items():
            for found, file in zip(sink.objects, files[stream], strict=True):
                if self.zone.staged_size(found) != file.size:
                    raise IncompleteInputError(f"{found} is not the file that the tap wrote for {stream}. Run again.")
        return files

    def _quarantine(self, table: Table) -> list[Object]:
        """The staged file of a table's rejected rows, which the tap wrote beside the others."""
        if table.quarantine is None:
            return []
        run_id = self.completion.run_id if self.completion else self.run_id
        self._claim(run_id)
        _, found = self.zone.staged(self._work(run_id).named(folder_name(table.stream), table.quarantine.path).url)
        if self.zone.staged_size(found) != table.quarantine.size:
            raise IncompleteInputError(f"{found} is not the file that the tap wrote. Run again.")
        return [found]

    def _warn_of_chains(self, manifest: Manifest, replaced: Summary | None) -> None:
        """Name the dates that stand on the partition which this one replaced, and those that lack its rows."""
        gone = replaced and not self.zone.readable(manifest.source, self.date, replaced.run_id)
        if gone and (days := standing_on(self.zone, manifest.source, self.date, {replaced.run_id})):
            logger.warning("%s of %s hold only what changed since the run of %s that was replaced. They cannot be "
                           "loaded until they are taken again, in this order: %s", ", ".join(map(str, days)),
                           manifest.source, self.date, again(manifest.source, days))
        elif days := lacking(self.zone, manifest):
            logger.warning("%s of %s were landed before %s and do not contain its rows (load: append). To add them, "
                           "take those dates again, in this order: %s", ", ".join(map(str, days)), manifest.source,
                           self.date, again(manifest.source, days))

    def _report(self, manifest: Manifest) -> None:
        partition = layout.partition(manifest.source, self.date)
        logger.info(
            "Landed %s of %s: %d tables, %s rows, %s bytes, in %s", manifest.source, self.date, len(manifest.tables),
            f"{manifest.rows:,}", f"{manifest.bytes:,}", self.zone.storage.describe(partition))
        for table in manifest.tables:
            if table.quarantine:
                logger.warning("%s: %s rejected rows are quarantined, not landed: %s", table.name,
                                    f"{table.quarantine.rows:,}",
                                    self.zone.storage.describe(f"{partition}/{table.quarantine.path}"))
        if manifest.source not in declared_sources():
            logger.warning("meltano.yml has no job extract_%s, so a load does not include this source.",
                                manifest.source)


def _outcome_unknown() -> bool:
    """Whether the error that is being handled leaves it unknown whether the manifest was put."""
    return isinstance(sys.exception(), UnknownOutcomeError)


def _drain(file: IO) -> None:
    """Read to the end and discard it: Meltano counts it as a failure if a target ends while its tap is sending."""
    file = getattr(file, "buffer", file)
    while file.read(BUFFER):
        pass
