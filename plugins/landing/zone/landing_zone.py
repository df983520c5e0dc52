"""The landing zone: where things lie, the manifest that makes a date exist, and the commit.

    <root>/source=<source>/extracted_at=<date>/_manifest.json
    <root>/source=<source>/extracted_at=<date>/table=<stream>/<run id>.csv
    <root>/source=<source>/extracted_at=<date>/table=<stream>/_quarantine-<run id>.jsonl    bad rows: see quarantine.py
    <root>/_staging/<run id>/                                               work in progress
    <root>/_attempts/<source>@<date>.jsonl                                  what was tried: see attempts.py

A source's date exists when its manifest does, and holds exactly the files that the manifest lists.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TextIO

from msgspec import structs

from landing.core.commands import extract_command
from landing.core.dates import parse_date
from landing.core.errors import DamagedError, NotLandedError, SettingError, ZoneError, describe
from landing.core.settings import flag, landing_root, settings
from landing.model.manifest import UNUSABLE, Manifest, encode, read_text
from landing.model.naming import folder_name
from landing.model.schema import File, Table
from landing.storage import compression
from landing.storage.local import make_folder, named, sync

logger = logging.getLogger("target-csv")
MANIFEST = "_manifest.json"
STAGING = "_staging"

# Hive's own list of characters that can't stand in a folder's name (FileUtils.escapePathName).
NOTHING_MORE = contextlib.nullcontext()


class LandingZone:
    """One landing root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def configured(cls) -> LandingZone:
        """The landing zone that LANDING_ROOT names, in the environment or in the project's .env."""
        return cls(landing_root(settings().get("LANDING_ROOT")))

    def partition(self, source: str, day: date) -> Path:
        """Folder of a source's date."""
        return self.root / f"source={source}" / f"extracted_at={day}"

    def manifest(self, source: str, day: date) -> Manifest | None:
        """The manifest of a source's date, or None where it is not landed."""
        path = self.partition(source, day) / MANIFEST
        again = f"Restore it, or run again: REEXTRACT=true {extract_command(source, day)}"
        try:
            manifest = Manifest.from_json(read_text(path, again))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedError(f"{path} cannot be read ({describe(error)}). {again}") from None
        except UNUSABLE as error:
            why = f"{type(error).__name__}: {error!s:.500}"
            raise DamagedError(f"{path} is not a manifest that can be used ({why}). {again}") from None
        if (manifest.source, manifest.extracted_at) != (source, day):
            raise DamagedError(f"{path} speaks of source={manifest.source} extracted_at={manifest.extracted_at}, not "
                               f"of the folder that it lies in. {again}")
        return manifest

    def require(self, source: str, day: date) -> Manifest:
        """The manifest of a source's date; NotLandedError says how to land it."""
        manifest = self.manifest(source, day)
        if manifest is None:
            raise NotLandedError(
                f"Source {source!r} is not landed for {day} (no {self.partition(source, day) / MANIFEST}). "
                f"Land it first: {extract_command(source, day)}"
            )
        return manifest

    def folders(self, source: str = "*") -> Iterator[tuple[str, str]]:
        """Every (source, date) that has a manifest, in order, as its folders call them: it need not be a date."""
        if self.root.is_dir():
            os.scandir(self.root).close()  # glob passes over what it may not read
        for folder in sorted(self.root.glob(f"source={source}/extracted_at=*")):
            try:
                (folder / MANIFEST).lstat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                pass  # whoever reads it says why that can't be
            source, day = (part.split("=", 1)[1] for part in folder.parts[-2:])
            yield source, day

    def landed(self, source: str = "*") -> Iterator[tuple[str, date]]:
        """Every (source, date) that has a manifest, in order; folders that are no dates are none."""
        for name, day in self.folders(source):
            with contextlib.suppress(SettingError):
                yield name, parse_date(day, "extracted_at")

    def frozen(self, source: str, day: date, began: datetime) -> bool:
        """Whether a run that began then must leave a date as it is: it was past, it is landed, REEXTRACT is not set.

        A run has one beginning, the tap's: a commit after midnight is judged by it too.
        """
        past = day < began.astimezone(timezone.utc).date()
        return past and not flag("REEXTRACT") and self.manifest(source, day) is not None

    def before(self, source: str, day: date) -> Manifest | None:
        """The manifest of a date or, where that is not landed, of the newest earlier one; None if it is damaged."""
        days = (found for name, found in self.landed(source) if name == source and found <= day)
        newest = max(days, default=None)
        with contextlib.suppress(DamagedError):
            return newest and self.manifest(source, newest)
        return None

    def path(self, manifest: Manifest, file: File) -> Path:
        """Where a listed file lies; a path that leaves the date's folder, or a file of another size, is refused."""
        partition = self.partition(manifest.source, manifest.extracted_at)
        path = partition / file.path
        again = f"REEXTRACT=true {extract_command(manifest.source, manifest.extracted_at)}"
        try:
            inside = path.resolve().is_relative_to(partition.resolve())
            size = path.stat().st_size if inside and path.is_file() else None
        except (OSError, ValueError, RuntimeError) as error:  # too long a name; a NUL; links in a circle
            why = getattr(error, "strerror", None) or f"{error!s:.200}"
            raise DamagedError(f"{partition / MANIFEST} lists {file.path!r:.200}: {why}. Run again: {again}") from None
        if not inside:
            raise DamagedError(f"{partition / MANIFEST} lists {file.path!r}, outside of its folder. Run again: {again}")
        if size != file.size:
            found = "nothing" if size is None else f"{size} bytes"
            raise DamagedError(f"{path}: expected {file.size} bytes, found {found}. Run again: {again}")
        return path

    def free(self) -> int:
        """Bytes that are free for us on its disk."""
        return shutil.disk_usage(next(folder for folder in (self.root, *self.root.parents) if folder.exists())).free

    def staging(self, run_id: str) -> Path:
        """A run's own folder for work in progress; it is there once something is written into it."""
        return self.root / STAGING / run_id

    def staged(self, path: Path) -> Path:
        """A path that a tap sent, if it lies in the staging area; else ZoneError."""
        resolved = path.resolve()
        if not resolved.is_relative_to((self.root / STAGING).resolve()) or not resolved.is_file():
            raise ZoneError(
                f"The tap announced {path}, which is not a file below {self.root / STAGING}. If the tap failed, "
                "its own error says why. Give tap and target the same LANDING_ROOT. Files are taken once: if these "
                "messages were saved and taken before, run the tap again."
            )
        return resolved

    def claim(self, run_id: str) -> int:
        """Lock a run's staging folder for the one target that takes its files: an open descriptor, or ZoneError."""
        folder = self.staging(run_id)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise ZoneError(f"{folder} is being taken by another target ({error.strerror}): were these messages sent "
                            "to two? This one committed nothing. Run the tap again.") from None
        return descriptor

    def discard(self, run_id: str) -> None:
        """Remove a run's staging folder."""
        shutil.rmtree(self.root / STAGING / run_id, ignore_errors=True)

    def commit(
        self, manifest: Manifest, staged: Mapping[str, list[Path]], check: Callable[[], None] = lambda: None,
        point: contextlib.AbstractContextManager = NOTHING_MORE,
    ) -> Manifest:
        """Publish a date atomically, replacing what was there, and return its manifest.

        `staged` has each table's files in order, as `Table.all_files` has them (their `path` is set here).
        `manifest.run_id` names them, so it must be one of this commit's own, never one that came with the data.
        `check` runs while the date's lock is held, before anything changes, and refuses by raising; it must not take
        that lock. `point` is entered around the commit point.

        Files move in under their new names first, and are on the disk before the manifest's rename, which is the
        commit point; files that the manifest no longer lists go last. A crash leaves the old date or the new one, and
        at worst files that no manifest lists; a failure without a crash (a full disk, say) removes those too.
        """
        partition = self.partition(manifest.source, manifest.extracted_at)
        with self.locked(manifest.source, manifest.extracted_at):
            check()
            tables, moves = self._planned(partition, manifest, staged)
            manifest = structs.replace(manifest, tables=tables)
            text = encode(manifest)
            moved: list[Path] = []
            try:
                self._move_in(partition, moves, moved)
                self._publish(partition, manifest, text, point)
            except BaseException:
                _take_back(partition, moved)
                raise
            sync(partition)  # failing, it leaves the superseded files, which the old manifest may need after all
            self._sweep(partition, manifest)
        return manifest

    def _planned(
        self, partition: Path, manifest: Manifest, staged: Mapping[str, list[Path]]
    ) -> tuple[list[Table], list[tuple[Path, Path]]]:
        """The tables with their files' final paths, and each file's path before and after."""
        tables, moves = [], []
        for table in manifest.tables:
            folder = folder_name(table.stream)
            if link := next((one for one in (partition, partition / folder) if one.is_symlink()), None):
                raise ZoneError(f"{link} is a link, and leads out of the landing zone. Nothing was committed. "
                                "Remove it, and run again.")
            landed = []
            for number, (path, file) in enumerate(zip(staged[table.stream], table.all_files, strict=True)):
                run = manifest.run_id
                name = run if len(table.files) == 1 else f"{run}-{number:04}"
                name = f"_quarantine-{run}" if file is table.quarantine else name
                landed.append(structs.replace(file, path=f"{folder}/{name}{compression.suffix(path)}"))
                moves.append((path, partition / landed[-1].path))
            quarantine = landed.pop() if table.quarantine else None
            tables.append(structs.replace(table, files=landed, quarantine=quarantine))
        return tables, moves

    def _move_in(self, partition: Path, moves: Iterable[tuple[Path, Path]], moved: list[Path]) -> None:
        """Move each file, noting in `moved` what arrived, and have all of it on the disk."""
        for source, path in moves:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                raise ZoneError(
                    f"{path} exists already: do two tables of {partition} differ only in case? "
                    "Deselect one of them under tap-postgres in meltano.yml and run again."
                )
            sync(source)
            os.replace(source, path)
            moved.append(path)

    def _publish(
        self, partition: Path, manifest: Manifest, text: bytes, point: contextlib.AbstractContextManager
    ) -> None:
        """Write the manifest and rename it into place, once all that it lists is on the disk, and the way to it."""
        temporary = self.staging(manifest.run_id) / MANIFEST
        temporary.parent.mkdir(exist_ok=True)
        with named(temporary):
            temporary.write_bytes(text)
        sync(temporary)
        partition.mkdir(parents=True, exist_ok=True)
        tables = {(partition / file.path).parent for table in manifest.tables for file in table.all_files}
        for folder in (*sorted(tables), partition, partition.parent, self.root):
            sync(folder)
        with point:
            os.replace(temporary, partition / MANIFEST)

    def remove(self, source: str, day: date, *, only_unfinished: bool = False) -> bool:
        """Take a date away: for readers at once, then its files. False where it is landed and should not be.

        A crash leaves the date as it was, or a folder without a manifest.
        """
        partition = self.partition(source, day)
        with self.locked(source, day) as lock:
            if only_unfinished and (partition / MANIFEST).exists():
                return False
            if partition.exists():
                (partition / MANIFEST).unlink(missing_ok=True)
                sync(partition)
                _clear(partition)
            lock.unlink()
        return True

    @contextlib.contextmanager
    def locked(self, source: str, day: date) -> Iterator[Path]:
        """Whoever changes a date does so alone. Who holds the lock's file may remove it, too."""
        path = self.root / STAGING / f"{source}@{day}.lock"
        make_folder(path.parent)
        while True:
            with _opened(path) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if _same(path, lock.fileno()):
                    yield path
                    return

    def unlisted(self, manifest: Manifest) -> list[Path]:
        """Files in a date's tables that its manifest does not list: certainly dead only while locked() is held."""
        partition = self.partition(manifest.source, manifest.extracted_at)
        listed = {partition / file.path for table in manifest.tables for file in table.all_files}
        found = {path for folder in _folders(partition) for path in folder.iterdir()
                 if path.is_file() and not path.is_symlink()}
        return sorted(found - listed)

    def _sweep(self, partition: Path, manifest: Manifest) -> None:
        """Remove what the manifest does not list. The date is committed: a failure is a warning."""
        try:
            for path in self.unlisted(manifest):
                path.unlink()
            for folder in _folders(partition):
                if not any(folder.iterdir()):
                    folder.rmdir()
        except OSError as error:
            logger.warning("%s of %s is committed and complete. Files that it superseded could not be removed (%s): "
                           "`landing gc --yes` does that.", manifest.source, manifest.extracted_at, describe(error))


def _take_back(partition: Path, moved: Sequence[Path]) -> None:
    """Remove a failed commit's files, which no manifest lists, and the folders that they leave empty."""
    for path in moved:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            path.unlink()
    for folder in (*partition.glob("table=*"), partition):
        with contextlib.suppress(OSError):  # it holds other files
            folder.rmdir()


def _clear(partition: Path) -> None:
    try:
        shutil.rmtree(partition)
    except OSError as error:
        raise ZoneError(f"{partition} is no date any more, and not all of its files could be removed "
                        f"({describe(error)}): `landing gc --yes --older-than 0` does that.") from None


def _folders(partition: Path) -> list[Path]:
    """The tables' folders; what lies behind a link is not ours."""
    return [path for path in partition.glob("table=*") if path.is_dir() and not path.is_symlink()]


def _opened(path: Path) -> TextIO:
    """A lock's file; a link to another file is no lock."""
    try:
        return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "w")
    except OSError as error:
        raise ZoneError(f"{path} cannot be opened ({error.strerror}). Nothing was committed. Mend that, and run again."
                        ) from None


def _same(path: Path, descriptor: int) -> bool:
    """Whether an open file still lies where it was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
