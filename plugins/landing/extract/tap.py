"""The base of both extract taps: they write into the landing zone's staging area, for target-csv to commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from landing.core.commands import extract_command
from landing.core.errors import ZoneError
from landing.core.settings import landing_root
from landing.singer.tap import LandingTap
from landing.storage.base import Prefix
from landing.zone.landing_zone import LandingZone

COMPRESSED = 0.1  # of its size, what a file may shrink to: a guess on the side of those who have little room


class ExtractTap(LandingTap):
    """A tap whose source is landed for one date."""

    kept = False  # the date is frozen: nothing is sent

    @property
    def source(self) -> str:
        """Name of this source."""
        raise NotImplementedError

    @property
    def retry_command(self) -> str:
        return extract_command(self.source, self.date)

    @property
    def landing_zone(self) -> LandingZone:
        """The landing zone of the settings."""
        return LandingZone.at(landing_root(self.config.get("landing_root")))

    @property
    def staging(self) -> Prefix:
        """Where this run's files are written, for the target to take."""
        return self.landing_zone.staging(self.run_id)

    def clean_up(self) -> None:
        self.landing_zone.discard(self.run_id)

    def keep_if_frozen(self) -> bool:
        """Deselect every stream if the date is landed and past; the target checks the same under the commit lock."""
        self.kept = self.landing_zone.frozen(self.source, self.date, self.started_at)
        if self.kept:
            for stream in self.streams.values():
                stream.selected = False
        return self.kept

    def landed_closing(self, available: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """What the completion message of an extract says besides its streams; the target does not decide it again.

        `available`: the columns of each stream that the source has now, sent or not.
        """
        return {"source": self.source, "extracted_at": self.date, "kept": self.kept,
                "started_at": self.started_at, "left_out": {} if self.kept else self._left_out(available)}

    def _left_out(self, available: Mapping[str, Sequence[str]]) -> dict[str, list[str] | None]:
        """What was not sent: columns by stream, None for a whole stream. Stream maps choose columns on purpose."""
        sent = {name: stream for stream in self.streams.values() for name in stream.sent}
        found: dict[str, list[str] | None] = {name: None for name in available if name not in sent}
        for name, stream in sent.items():
            if name in available and not stream.mapped:
                missing = {*available[name]} - {column.name for column in stream.table.columns}
                found |= {name: sorted(missing)} if missing else {}
        return found

    def require_room(self, expected: int) -> None:
        """Refuse to begin with files of so many bytes, were they plain, where the disk won't hold them."""
        free = self.landing_zone.storage.free()
        size = expected * (1 if self.config["compression"] == "none" else COMPRESSED)
        if free < size * self.config["disk_headroom"] / 100:
            raise ZoneError(
                f"The files of {self.source} are expected to take about {size / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB "
                f"are free in {self.landing_zone.storage.describe()}. Nothing was begun. Make room there (`landing gc` "
                f"says what may go), set `compression: zstd` or, should the estimate be wrong, `disk_headroom: 0` for "
                f"{self.name} in meltano.yml; then run again: {self.retry_command}"
            )
