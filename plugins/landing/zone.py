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
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from landing import checked, files, project
from landing.dialect import TYPE, Column
from landing.errors import DamagedError, NotLandedError, SettingError, ZoneError, describe
from landing.files import make_folder, named, sync

logger = logging.getLogger("target-csv")
FORMAT_VERSION = 1
MANIFEST = "_manifest.json"
STAGING = "_staging"
LARGEST = 128 << 20  # bytes of a manifest; one of 10,000 tables has some 30 MB
RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")  # it becomes a part of names
SHA256 = re.compile("[0-9a-f]{64}")

# Hive's own list of characters that can't stand in a folder's name (FileUtils.escapePathName).
NOTHING_MORE = contextlib.nullcontext()
UNSAFE = re.compile("[\x00-\x1f\x7f\"#%'*/:=?\\\\{}\\[\\]^]")


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(timezone.utc)


def new_run_id() -> str:
    """Unique, and sorted by time of start."""
    return f"{now():%Y%m%dT%H%M%S}Z-{secrets.token_hex(4)}"


def short_hash(name: str) -> str:
    """Tells apart names that had to be cut."""
    return hashlib.sha256(name.encode()).hexdigest()[:10]


def folder_name(stream: str) -> str:
    """`table=<stream>`, unsafe characters as %XX; what is too long for a file system ends in a hash instead."""
    escaped = UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", stream)
    if len(escaped.encode()) > 200:
        escaped = escaped.encode()[:180].decode(errors="ignore") + "~" + short_hash(stream)
    return f"table={escaped}"


@dataclass(frozen=True)
class File:
    """A landed file: path below the date's folder, data rows, bytes, SHA-256; `stored`, its size where compressed."""

    path: str
    rows: int
    bytes: int
    sha256: str
    stored: int | None = None

    @classmethod
    def at(cls, path: Path, rows: int, size: int, sha256: str) -> File:
        """A file that is written; `size` in bytes is of what is in it."""
        stored = path.stat().st_size if files.compressed(path) else None
        return cls(path.name, rows, size, sha256, stored)

    @property
    def size(self) -> int:
        """Bytes that it takes on the disk."""
        return self.bytes if self.stored is None else self.stored

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a manifest, and in a tap's closing message."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class ForeignKey:
    """`columns` hold values of `references`, in order: columns of a table of the same source."""

    columns: list[str]
    schema: str
    table: str
    references: list[str]


@dataclass(frozen=True)
class Table:
    """A table of a date. `schema` is None for what has none (a CSV file).

    `declared_types` says that a person declared types for the columns: then the warehouse's text may differ from the
    file's (`1.50` as `real` is `1.5`).
    """

    stream: str
    name: str
    schema: str | None
    columns: list[Column]
    primary_key: list[str]
    files: list[File] = field(default_factory=list)
    comment: str | None = None
    declared_types: bool = False
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    quarantine: File | None = None  # its bad rows, none of which is among `rows`
    duplicates: int = 0  # rows that were left out, since an earlier row has their key
    lossy: bool = False  # a person allowed declared types that do not hold every value exactly
    not_of_snapshot: list[str] = field(default_factory=list)  # foreign tables that its rows come from

    @property
    def all_files(self) -> list[File]:
        """Those with its rows, then its quarantine's."""
        return [*self.files, *([self.quarantine] if self.quarantine else [])]

    @property
    def rows(self) -> int:
        """Data rows in all files."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def sha256(self) -> str:
        """Of all files, as combined() has it."""
        return combined([file.sha256 for file in self.files])


@dataclass(frozen=True)
class Manifest:
    """What one date of one source holds, and from which snapshot it was truly taken."""

    source: str
    extracted_at: date
    run_id: str
    taken_at: datetime
    snapshot: dict[str, Any]
    software: dict[str, str]
    tables: list[Table]
    seconds: float | None = None  # that the extract took; manifests of before don't say

    @property
    def rows(self) -> int:
        """Data rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(table.bytes for table in self.tables)

    def ordered(self) -> Manifest:
        """With its tables in order of their streams, as in the file."""
        return replace(self, tables=sorted(self.tables, key=lambda table: table.stream))

    def to_json(self) -> str:
        """As it stands in the file; docs/landing-zone.md describes each field."""
        tables = [
            {"stream": t.stream, "schema": t.schema, "name": t.name, "rows": t.rows, "bytes": t.bytes,
             "primary_key": t.primary_key, "comment": t.comment, "declared_types": t.declared_types,
             "foreign_keys": [asdict(k) for k in t.foreign_keys],
             "columns": [c.to_dict() for c in t.columns], "files": [f.to_dict() for f in t.files],
             **({"quarantine": t.quarantine.to_dict()} if t.quarantine else {}),
             **({"duplicates": t.duplicates} if t.duplicates else {}), **({"lossy": True} if t.lossy else {}),
             **({"not_of_snapshot": t.not_of_snapshot} if t.not_of_snapshot else {})}
            for t in self.ordered().tables
        ]
        head = {
            "format_version": FORMAT_VERSION,
            "source": self.source,
            "extracted_at": self.extracted_at.isoformat(),
            "run_id": self.run_id,
            "taken_at": self.taken_at.isoformat(),
            **({} if self.seconds is None else {"seconds": self.seconds}),
            "snapshot": self.snapshot,
            "software": self.software,
        }
        whole = head | {"tables": tables}
        return json.dumps(whole | {"sha256": _seal(whole)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read back; one of UNUSABLE when it isn't a manifest that this version understands, or was changed."""
        raw = checked.document(text)
        if raw["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {raw['format_version']}, expected {FORMAT_VERSION}")
        seal = raw.pop("sha256", None)
        if seal not in (None, _seal(raw)):  # manifests of before have none
            raise ValueError(f"it was changed: its own SHA-256 is {_seal(raw)}, expected {seal}")
        return cls(
            checked.text(raw["source"]), project.parse_date(raw["extracted_at"], "extracted_at"),
            checked.text(raw["run_id"], RUN_ID), checked.utc(raw["taken_at"]),
            checked.flat(raw["snapshot"]), checked.flat(raw["software"]), _tables(raw["tables"]),
            checked.seconds(raw.get("seconds")),
        )


UNUSABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, SettingError)


def _seal(raw: Mapping[str, Any]) -> str:
    """SHA-256 of what a manifest says, whatever its spacing and order."""
    return hashlib.sha256(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _tables(raw: Any) -> list[Table]:
    tables = [_table(table) for table in checked.items(raw)]
    checked.once((table.stream for table in tables), "table")
    checked.once((file.path for table in tables for file in table.all_files), "file")
    return tables


def _table(raw: Mapping[str, Any]) -> Table:
    table = Table(
        checked.text(raw["stream"]), checked.text(raw["name"]), checked.text_or_none(raw["schema"]),
        [_column(Column(**one)) for one in checked.items(raw["columns"])], checked.texts(raw["primary_key"]),
        [_file(File(**one)) for one in checked.items(raw["files"])], checked.text_or_none(raw["comment"]),
        checked.flag(raw["declared_types"]),
        [_foreign_key(ForeignKey(**one)) for one in checked.items(raw.get("foreign_keys", []))],
        _file(File(**raw["quarantine"])) if raw.get("quarantine") else None,
        checked.count(raw.get("duplicates", 0)), checked.flag(raw.get("lossy", False)),
        checked.texts(raw.get("not_of_snapshot", [])),
    )
    names = [column.name for column in table.columns]
    checked.once(names, f"column of {table.stream!r}")
    if unknown := {*table.primary_key} - {*names}:
        raise ValueError(f"the key of {table.stream!r} has columns that it has not: {sorted(unknown)}")
    if (table.rows, table.bytes) != (raw["rows"], raw["bytes"]) or not table.files:
        raise ValueError(f"the files of {table.stream!r} do not add up to its rows and bytes")
    return table


def _column(column: Column) -> Column:
    if not TYPE.fullmatch(column.type):
        raise ValueError(f"column {column.name!r} has type {column.type!r}, which is not one")
    checked.text(column.name)
    checked.flag(column.nullable)
    checked.flag(column.evidence)
    checked.text_or_none(column.source_type)
    checked.text_or_none(column.comment)
    return column


def _file(file: File) -> File:
    checked.text(file.path)
    checked.text(file.sha256, SHA256)
    for number in (file.rows, file.bytes, file.size):
        checked.count(number)
    return file


def _foreign_key(key: ForeignKey) -> ForeignKey:
    checked.texts([key.schema, key.table])
    checked.texts(key.columns)
    checked.texts(key.references)
    return key


def _readable(manifest: Manifest) -> bytes:
    """A manifest's text; ZoneError where it could not be read back as what it is."""
    where = f"The manifest of {manifest.source} of {manifest.extracted_at}"
    try:
        text = manifest.to_json().encode()
        if len(text) > LARGEST:
            raise ZoneError(f"{where} would have {len(text):,} bytes, and none has more than {LARGEST:,}. Nothing was "
                            "committed. Deselect tables, or divide them between several sources, and run again.")
        same = Manifest.from_json(text.decode()) == manifest.ordered()
    except UNUSABLE as error:
        raise ZoneError(f"{where} could not be read back ({type(error).__name__}: {error!s:.500}). Nothing was "
                        "committed. Correct what the tap sends, and run again.") from None
    if not same:
        raise ZoneError(f"{where} would be read back as another one. Nothing was committed. Correct what the tap "
                        "sends, and run again.")
    return text


def _read(path: Path, again: str) -> str:
    """A manifest's text; of a link, a pipe or the like nothing is read, nor of what is larger than any manifest."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise DamagedError(f"{path} is no file. {again}")
    if found.st_size > LARGEST:
        raise DamagedError(f"{path} has {found.st_size:,} bytes, and no manifest has more than {LARGEST:,}. {again}")
    return path.read_text("utf-8")


class LandingZone:
    """One landing root."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def partition(self, source: str, day: date) -> Path:
        """Folder of a source's date."""
        return self.root / f"source={source}" / f"extracted_at={day}"

    def manifest(self, source: str, day: date) -> Manifest | None:
        """The manifest of a source's date, or None where it is not landed."""
        path = self.partition(source, day) / MANIFEST
        again = f"Restore it, or run again: REEXTRACT=true {project.extract_command(source, day)}"
        try:
            manifest = Manifest.from_json(_read(path, again))
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
                f"Land it first: {project.extract_command(source, day)}"
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
                yield name, project.parse_date(day, "extracted_at")

    def frozen(self, source: str, day: date, began: datetime) -> bool:
        """Whether a run that began then must leave a date as it is: it was past, it is landed, REEXTRACT is not set.

        A run has one beginning, the tap's: a commit after midnight is judged by it too.
        """
        past = day < began.astimezone(timezone.utc).date()
        return past and not project.flag("REEXTRACT") and self.manifest(source, day) is not None

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
        again = f"REEXTRACT=true {project.extract_command(manifest.source, manifest.extracted_at)}"
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
            manifest = replace(manifest, tables=tables)
            text = _readable(manifest)
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
                landed.append(replace(file, path=f"{folder}/{name}{files.suffix(path)}"))
                moves.append((path, partition / landed[-1].path))
            quarantine = landed.pop() if table.quarantine else None
            tables.append(replace(table, files=landed, quarantine=quarantine))
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


def combined(hashes: list[str]) -> str:
    """A table's hash: its file's; of several files, the hash of their hashes in order."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _same(path: Path, descriptor: int) -> bool:
    """Whether an open file still lies where it was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
