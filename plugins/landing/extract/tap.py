"""Base of both extract taps: they write into the landing zone's staging directory, and target-csv commits."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from landing.core.commands import extract_command, load_command
from landing.core.commit_point import BEFORE
from landing.core.errors import ZoneError
from landing.core.settings import landing_root
from landing.core.slips import other_date
from landing.extract.selection import patterns, refuse_unmatched
from landing.singer.tap import LandingTap
from landing.storage.base import Prefix
from landing.zone.chains import ReadOnce
from landing.zone.landing_zone import LandingZone

logger = logging.getLogger(__name__)

COMPRESSED = 0.1  # optimistic compression ratio: the check must not reject an extract that may fit


class ExtractTap(LandingTap):
    """A tap whose source is landed for one date."""

    @property
    def source(self) -> str:
        """The source's name."""
        raise NotImplementedError

    @property
    def retry_command(self) -> str:
        return extract_command(self.source, self.date)

    @cached_property
    def landing_zone(self) -> LandingZone:
        """The configured landing zone."""
        return LandingZone.at(landing_root(self.config.get("landing_root")))

    @cached_property
    def earlier_dates(self) -> LandingZone:
        """The landing zone, in which increments look for what they stand on."""
        return ReadOnce(self.landing_zone.storage)

    @property
    def staging(self) -> Prefix:
        """Where this run's files are written, for the target to commit."""
        return self.landing_zone.work(self.run_id, self.source, self.date)

    def clean_up(self) -> None:
        if self.point.state == BEFORE:  # else the target may have committed them
            self.landing_zone.withdraw(self.run_id, self.source, self.date)

    def log_slips(self) -> None:
        """Log that the date of a load was given, and none of an extract: is the environment of the load forgotten?"""
        if slip := other_date("DATESTAMP"):
            logger.warning("%s To load a landed date instead, run: %s", slip,
                           load_command(os.environ["EXTRACTED_AT"], os.environ.get("SCHEMA", "public")))

    def refuse_unmatched(self) -> None:
        """Raise SettingError for a pattern of `select` that names what the source does not have."""
        if given := patterns():
            refuse_unmatched(given, {name: list(one.schema["properties"]) for name, one in self.streams.items()})

    @cached_property
    def frozen(self) -> bool:
        """Whether the landed date is frozen: decided once, as what is read depends on it."""
        return self.landing_zone.frozen(self.source, self.date, self.started_at)

    def keep_if_frozen(self) -> bool:
        """Send nothing if the landed date is frozen; the target checks this again under the commit lock.

        Independent of the target, which the tap does not know: a target of another vendor could not tell either that
        today's rows are not that day's. target-csv logs it, so the tap logs it only where the target may be another.
        """
        self.kept = self.frozen
        if self.kept and not self.config.get("use_batch", True):
            logger.info("%s of %s is landed and past, so nothing is read. To send today's rows anyway, run again with "
                        "REEXTRACT=true.", self.source, self.date)
        return self.kept

    def landed_closing(self, available: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Fields of an extract's completion message besides its streams; the target does not decide them again.

        Args:
            available: The columns that each stream has at the source, sent or not.
        """
        return {"source": self.source, "extracted_at": self.date, "kept": self.kept,
                "started_at": self.started_at, "left_out": {} if self.kept else self._left_out(available)}

    def _left_out(self, available: Mapping[str, Sequence[str]]) -> dict[str, list[str] | None]:
        """Columns that were not sent, by stream; None for a whole stream. Columns of stream maps do not count."""
        sent = {name: stream for stream in self.streams.values() for name in stream.sent}
        found: dict[str, list[str] | None] = {name: None for name in available if name not in sent}
        for name, stream in sent.items():
            if name in available and not stream.mapped:
                table = stream.table
                missing = {*available[name]} - {column.name for column in table.columns} - {*table.dropped}
                found |= {name: sorted(missing)} if missing else {}
        return found

    def require_room(self, expected: int) -> None:
        """Fail early if the storage cannot hold the expected bytes (uncompressed)."""
        free = self.landing_zone.storage.free()
        size = expected * (1 if self.config["compression"] == "none" else COMPRESSED)
        if free < size * self.config["disk_headroom"] / 100:
            raise ZoneError(
                f"The files of {self.source} are expected to take about {size / 1e6:,.1f} MB, but only "
                f"{free / 1e6:,.1f} MB are free in {self.landing_zone.storage.describe()}. Nothing was extracted. "
                "Free disk space there (`landing gc` lists what can be removed), set `compression: zstd` or, if the "
                f"estimate is wrong, `disk_headroom: 0` for {self.name} in meltano.yml. "
                f"Then run: {self.retry_command}"
            )
