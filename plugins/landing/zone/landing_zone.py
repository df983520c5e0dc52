"""The landing zone as readers have it: which partitions exist, their manifests and their files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from typing import TypeVar

from landing.core.commands import how_to_land, how_to_repair
from landing.core.dates import parse_date
from landing.core.errors import DamagedError, NotLandedError, SettingError, ZoneError, describe
from landing.core.settings import configured_root, flag
from landing.model.manifest import LARGEST, UNUSABLE, Manifest
from landing.model.schema import File
from landing.model.summary import Summary
from landing.storage.base import Claim, Lock, Object, Prefix, Storage
from landing.storage.urls import Root, storage
from landing.zone import layout
from landing.zone.in_place import RunPrefix, of_runs, run_of
from landing.zone.layout import MANIFEST

Parsed = TypeVar("Parsed", Manifest, Summary)


class LandingZone:
    """One landing root."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @classmethod
    def at(cls, root: Root) -> LandingZone:
        """The landing zone in a folder, or below the URL of a bucket."""
        return cls(storage(root))

    @classmethod
    def configured(cls) -> LandingZone:
        """The landing zone that LANDING_ROOT names, in the environment or in the project's .env."""
        return cls.at(configured_root())

    def manifest(self, source: str, day: date, run_id: str | None = None) -> Manifest | None:
        """The manifest of a partition, or None where it is not landed.

        Args:
            source: Its source.
            day: Its date.
            run_id: Of the run, the newest or one that is kept; None: the newest.

        Raises:
            DamagedError: It cannot be read, or is not one.
        """
        return self._of_run(source, day, run_id, Manifest.from_json)

    def summary(self, source: str, day: date, run_id: str | None = None) -> Summary | None:
        """The sums of a manifest, read in less time; else as manifest()."""
        return self._of_run(source, day, run_id, Summary.from_json)

    def kept_runs(self, source: str, day: date) -> list[str]:
        """Ids of the earlier runs that are kept, in order of their start. A killed commit leaves the newest's, too."""
        names = (key.rpartition("/")[2] for key in self.storage.files(layout.partition(source, day)))
        return sorted(found[1] for name in names if (found := layout.KEPT.fullmatch(name)))

    def kept(self, source: str, day: date, run_id: str) -> Manifest | None:
        """The manifest of a kept run, also where no newest one is; else as manifest()."""
        return self._read(source, day, run_id, Manifest.from_json)

    def earlier(self, manifest: Manifest | Summary) -> list[str]:
        """Ids of the kept runs besides a partition's newest."""
        return [one for one in self.kept_runs(manifest.source, manifest.extracted_at) if one != manifest.run_id]

    def kept_files(self, source: str, day: date) -> set[str]:
        """Keys of the files of kept runs. Raises DamagedError if it cannot be told."""
        found = (self.kept(source, day, run_id) for run_id in self.kept_runs(source, day))
        return {key for manifest in found if manifest for key in layout.files(manifest)}

    def _of_run(self, source: str, day: date, run_id: str | None, parse: Callable[[str], Parsed]) -> Parsed | None:
        try:
            newest = self._read(source, day, None, parse)
        except DamagedError:
            if run_id and (kept := self._read(source, day, run_id, parse)):
                return kept
            raise
        if newest is None or run_id in (None, newest.run_id):
            return newest
        return self._read(source, day, run_id, parse)

    def _read(self, source: str, day: date, kept: str | None, parse: Callable[[str], Parsed]) -> Parsed | None:
        key = layout.kept_manifest(source, day, kept) if kept else layout.manifest(source, day)
        where = self.storage.describe(key)
        retry = "Restore it from a backup: it cannot be extracted again." if kept else how_to_repair(source, day)
        try:
            manifest = parse(self.storage.read(key, LARGEST).decode())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedError(f"{where} cannot be read ({describe(error)}). {retry}") from None
        except UNUSABLE as error:
            why = f"{type(error).__name__}: {error!s:.500}"
            raise DamagedError(f"{where} is not a manifest that can be used ({why}). {retry}") from None
        if (manifest.source, manifest.extracted_at) != (source, day):
            raise DamagedError(f"{where} is a manifest for source={manifest.source} extracted_at="
                               f"{manifest.extracted_at}; it does not match its directory. {retry}")
        if kept not in (None, manifest.run_id):
            raise DamagedError(f"{where} is the manifest of run {manifest.run_id}; it does not match its name. {retry}")
        return manifest

    def require(self, source: str, day: date) -> Manifest:
        """The manifest of a partition; NotLandedError gives the command that lands it."""
        manifest = self.manifest(source, day)
        if manifest is None:
            raise self.not_landed([source], day, how_to_land([source], day))
        return manifest

    def not_landed(self, sources: Sequence[str], day: date, then: str) -> NotLandedError:
        """The error for sources that are needed. `then`: what to do."""
        names = ", ".join(map(repr, sources))
        what = f"Source {names} is not landed for" if len(sources) == 1 else f"Sources {names} are not landed for"
        paths = ", ".join(self.storage.describe(layout.manifest(source, day)) for source in sources)
        return NotLandedError(f"{what} {day} (no {paths}). {then}")

    def readable(self, source: str, day: date, run_id: str | None = None) -> Summary | None:
        """The sums of a manifest, or None where it is not landed or damaged."""
        with contextlib.suppress(DamagedError):
            return self.summary(source, day, run_id)
        return None

    def sources_landed(self, day: date) -> list[str]:
        """Sources with a manifest for a date, in order."""
        names = [prefix.removeprefix("source=") for prefix in self.storage.prefixes("") if prefix.startswith("source=")]
        found = self.storage.existing(layout.manifest(name, day) for name in names)
        return [name for name, landed in zip(names, found, strict=True) if landed]

    def folders(self) -> Iterator[tuple[str, str]]:
        """(source, date) of every folder with a manifest, in order. The date is not parsed."""
        yield from self._with_manifest(self._partitions())

    def _with_manifest(self, partitions: Iterator[tuple[str, str, str]]) -> Iterator[tuple[str, str]]:
        found = [*partitions]
        landed = self.storage.existing(f"{prefix}/{MANIFEST}" for _, _, prefix in found)
        return ((source, day) for (source, day, _), there in zip(found, landed, strict=True) if there)

    def landed(self, source: str | None = None) -> Iterator[tuple[str, date]]:
        """(source, date) of every partition that has a manifest, in order."""
        for name, day in self._with_manifest(self._partitions(source)):
            with contextlib.suppress(SettingError):
                yield name, parse_date(day, "extracted_at")

    def partitions(self) -> Iterator[tuple[str, date]]:
        """(source, date) of every folder of a partition, with a manifest or without; links are left out."""
        for source, day, _ in self._partitions(links=False):
            with contextlib.suppress(SettingError):
                yield source, parse_date(day, "extracted_at")

    def refuse_linked(self, source: str | None = None, day: date | None = None) -> None:
        """Raise ZoneError if one of these landed partitions is behind a link: only what is here is moved or removed."""
        for found in sorted({*self.landed(source)} - {*self.partitions()}):
            if day in (None, found[1]):
                where = self.storage.describe(layout.partition(*found))
                raise ZoneError(f"{where} is behind a link, and nothing there is moved or removed. Nothing was "
                                "changed. Put the folder itself in place of the link (moved or mounted), and run "
                                "again.")

    def _partitions(self, only: str | None = None, *, links: bool = True) -> Iterator[tuple[str, str, str]]:
        """Source, date and prefix, the first two as their folders name them; of all sources, or of one."""
        for source in self.storage.prefixes("", links=links) if only is None else [f"source={only}"]:
            if source.startswith("source="):
                for prefix in self.storage.prefixes(source, links=links):
                    name, _, day = prefix.rpartition("/")[2].partition("=")
                    if name == "extracted_at":
                        yield source.removeprefix("source="), day, prefix

    def frozen(self, source: str, day: date, began: datetime) -> bool:
        """Whether a run that began then must not replace a partition: it is landed, past, and REEXTRACT is not set.

        A run has one beginning, the tap's: a commit after midnight is judged by it too.
        """
        past = day < began.astimezone(UTC).date()
        return past and not flag("REEXTRACT") and self.manifest(source, day) is not None

    def before(self, source: str, day: date) -> Manifest | None:
        """The manifest of a date or, where that is not landed, of the newest earlier one; None if it is damaged."""
        newest = max((found for _, found in self.landed(source) if found <= day), default=None)
        with contextlib.suppress(DamagedError):
            return newest and self.manifest(source, newest)
        return None

    def file(self, manifest: Manifest, file: File) -> Object:
        """A listed file.

        Raises:
            DamagedError: It is missing, of another size, or outside of its partition.
        """
        partition = layout.partition(manifest.source, manifest.extracted_at)
        where = self.storage.describe(f"{partition}/{MANIFEST}")
        retry = how_to_repair(manifest.source, manifest.extracted_at)
        found = Object(self.storage, f"{partition}/{file.path}")
        try:
            size = self.storage.size(found.key, below=partition)
        except (OSError, ValueError, RuntimeError) as error:  # too long a name; a NUL; links in a circle; outside
            why = getattr(error, "strerror", None) or f"{error!s:.200}"
            raise DamagedError(f"{where} lists {file.path!r:.200}: {why}. {retry}") from None
        if size != file.size:
            there = "nothing" if size is None else f"{size} bytes"
            raise DamagedError(f"{found}: expected {file.size} bytes, found {there}. {retry}")
        return found

    def work(self, run_id: str, source: str, day: date) -> Prefix:
        """Where a run writes files that are not committed yet."""
        if self.storage.in_place:
            return RunPrefix(self.storage, layout.partition(source, day), run_id)
        return self.staging(run_id)

    def staging(self, run_id: str) -> Prefix:
        """A run's own place for work in progress."""
        return Prefix(self.storage, layout.staging(run_id))

    def staged(self, url: str) -> tuple[str, Object]:
        """A file that a tap announced, if it is one that is not committed, and its run's id; else ZoneError."""
        key = self.storage.key(url)
        run_id = key and (self._run_in_place(key) if self.storage.in_place else self._run_in_staging(key))
        if not run_id:
            raise ZoneError(
                f"The tap announced {url}, which is not a file below {self.storage.describe(layout.STAGING)}. Give "
                "tap and target the same LANDING_ROOT, and run again."
            )
        return run_id, Object(self.storage, key)

    def _run_in_staging(self, key: str) -> str | None:
        if not key.startswith(f"{layout.STAGING}/"):
            return None
        if self.storage.size(key) is None:
            # No table's name: another may have made the tap fail.
            raise ZoneError(
                f"The tap's files are gone from {self.storage.describe('/'.join(key.split('/')[:2]))}. Nothing was "
                "committed. If the tap failed, its own error says why. A commit moves the files, so saved messages "
                "cannot be replayed: run the tap again.")
        return key.split("/")[1]

    def _run_in_place(self, key: str) -> str | None:
        source, _, rest = key.removeprefix("source=").partition("/extracted_at=")
        day, _, name = rest.partition("/table=")
        return run_of(key) if key == f"source={source}/extracted_at={day}/table={name}" else None


    def staged_size(self, found: Object) -> int | None:
        """Bytes of a file that is not committed; None if it is gone."""
        below = found.key.rpartition("/table=")[0] if self.storage.in_place else ""
        return self.storage.size(found.key, below)

    def claim(self, run_id: str) -> Claim:
        """Claim a run's files for the one target that takes them; else ZoneError."""
        try:
            return self.storage.claim(layout.staging(run_id))
        except BlockingIOError as error:
            raise ZoneError(
                f"{self.storage.describe(layout.staging(run_id))} is claimed by another target ({error.strerror}): "
                "were the same messages sent to two targets? This one committed nothing. Run the tap again.") from None

    def discard(self, run_id: str) -> None:
        """Remove a run's staging area."""
        self.storage.delete_all(layout.staging(run_id), ignore_errors=True)  # gc removes the rest

    def withdraw(self, run_id: str, source: str, day: date) -> None:
        """Remove the files of a run that committed nothing, except landed ones: its messages may have come twice."""
        if self.storage.in_place:
            with contextlib.suppress(OSError, DamagedError):
                manifest, kept = self.manifest(source, day), self.kept_files(source, day)
                own = {*of_runs(self.storage, layout.partition(source, day), {run_id})}
                self.storage.delete_each(own - kept - {*(layout.files(manifest) if manifest else ())})
        self.discard(run_id)

    def locked(self, source: str, day: date) -> AbstractContextManager[Lock]:
        """Hold the partition's exclusive lock, as every change of it does."""
        return self.storage.lock(layout.lock(source, day))
