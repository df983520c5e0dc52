"""The landing zone: where things lie, the manifest that makes a date exist, and the commit.

    <root>/source=<source>/extracted_at=<date>/_manifest.json
    <root>/source=<source>/extracted_at=<date>/table=<stream>/<run id>.csv
    <root>/_staging/<run id>/                                               work in progress
    <root>/_attempts/<source>@<date>.jsonl                                  what was tried: see attempts.py

A source's date exists when its manifest does, and holds exactly the files that the manifest lists.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

from landing import files, project
from landing.dialect import TYPE, Column
from landing.errors import DamagedError, NotLandedError, SettingError, ZoneError
from landing.files import sync

FORMAT_VERSION = 1
MANIFEST = "_manifest.json"
STAGING = "_staging"

# Hive's own list of characters that can't stand in a folder's name (FileUtils.escapePathName).
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
        stored = None if files.suffix(path) == ".csv" else path.stat().st_size
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

    def to_json(self) -> str:
        """As it stands in the file; docs/landing-zone.md describes each field."""
        tables = [
            {"stream": t.stream, "schema": t.schema, "name": t.name, "rows": t.rows, "bytes": t.bytes,
             "primary_key": t.primary_key, "comment": t.comment, "declared_types": t.declared_types,
             "foreign_keys": [asdict(k) for k in t.foreign_keys],
             "columns": [asdict(c) for c in t.columns], "files": [f.to_dict() for f in t.files]}
            for t in sorted(self.tables, key=lambda table: table.stream)
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
        return json.dumps(head | {"tables": tables}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: Path) -> Manifest:
        """Read back; DamagedError names the file when it isn't a manifest that this version understands."""
        try:
            raw = json.loads(text)
            if raw["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version {raw['format_version']}, expected {FORMAT_VERSION}")
            tables = [_table(table) for table in raw["tables"]]
            return cls(
                raw["source"], project.parse_date(raw["extracted_at"], "extracted_at"), raw["run_id"],
                datetime.fromisoformat(raw["taken_at"]), raw["snapshot"], raw["software"], tables,
                None if raw.get("seconds") is None else float(raw["seconds"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(
                f"{where} is not a manifest that can be used ({type(error).__name__}: {error}). "
                "Land that date again with REEXTRACT=true, or restore the file."
            ) from None


def _table(raw: Mapping[str, Any]) -> Table:
    columns = [Column(**column) for column in raw["columns"]]
    for column in columns:
        if not TYPE.fullmatch(column.type):
            raise ValueError(f"column {column.name!r} has type {column.type!r}, which is not one")
    table = Table(
        raw["stream"], raw["name"], raw["schema"], columns, list(raw["primary_key"]),
        [File(**file) for file in raw["files"]], raw["comment"], raw["declared_types"],
        [ForeignKey(**key) for key in raw.get("foreign_keys", [])],
    )
    if table.rows != raw["rows"] or table.bytes != raw["bytes"] or not table.files:
        raise ValueError(f"the files of {table.stream!r} do not add up to its rows and bytes")
    return table


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
        try:
            manifest = Manifest.from_json(path.read_text("utf-8"), path)
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise DamagedError(f"{path} is not UTF-8 ({error}). Land that date again with REEXTRACT=true.") from None
        if (manifest.source, manifest.extracted_at) != (source, day):
            raise DamagedError(
                f"{path} speaks of source={manifest.source} extracted_at={manifest.extracted_at}, not of the folder "
                f"that it lies in. Run again: REEXTRACT=true {project.extract_command(source, day)}"
            )
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

    def folders(self) -> Iterator[tuple[str, str]]:
        """Every (source, date) that has a manifest, in order, as its folders call them: it need not be a date."""
        for path in sorted(self.root.glob(f"source=*/extracted_at=*/{MANIFEST}")):
            source, day = (part.split("=", 1)[1] for part in path.parts[-3:-1])
            yield source, day

    def landed(self) -> Iterator[tuple[str, date]]:
        """Every (source, date) that has a manifest, in order; folders that are no dates are none."""
        for source, day in self.folders():
            with contextlib.suppress(SettingError):
                yield source, project.parse_date(day, "extracted_at")

    def keeps(self, source: str, day: date) -> bool:
        """Whether a date stays as it is: past, landed, and REEXTRACT not set."""
        return day < project.today() and not project.flag("REEXTRACT") and self.manifest(source, day) is not None

    def path(self, manifest: Manifest, file: File) -> Path:
        """Where a listed file lies; a path that leaves the date's folder, or a file of another size, is refused."""
        partition = self.partition(manifest.source, manifest.extracted_at)
        path = partition / file.path
        again = f"REEXTRACT=true {project.extract_command(manifest.source, manifest.extracted_at)}"
        if not path.resolve().is_relative_to(partition.resolve()):
            raise DamagedError(f"{partition / MANIFEST} lists {file.path!r}, outside of its folder. Run again: {again}")
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            found = "nothing" if size is None else f"{size} bytes"
            raise DamagedError(f"{path}: expected {file.size} bytes, found {found}. Run again: {again}")
        return path

    def staging(self, run_id: str) -> Path:
        """A run's own folder for work in progress; it is there once something is written into it."""
        return self.root / STAGING / run_id

    def staged(self, path: Path) -> Path:
        """A path that a tap sent, if it lies in the staging area; else ZoneError."""
        resolved = path.resolve()
        if not resolved.is_relative_to((self.root / STAGING).resolve()) or not resolved.is_file():
            raise ZoneError(
                f"The tap announced {path}, which is not a file below {self.root / STAGING}. "
                "Give tap and target the same LANDING_ROOT."
            )
        return resolved

    def discard(self, run_id: str) -> None:
        """Remove a run's staging folder."""
        shutil.rmtree(self.root / STAGING / run_id, ignore_errors=True)

    def commit(self, manifest: Manifest, staged: Mapping[str, list[Path]]) -> Manifest:
        """Make a date exist, replacing what was there.

        `staged` has each table's files in order, as `Table.files` describes them (their `path` is set here). Files
        move in under names of this run first; the manifest's rename is the moment of truth; what it no longer lists
        goes last. A crash leaves the old date or the new one, and at worst files that no manifest lists.
        """
        partition = self.partition(manifest.source, manifest.extracted_at)
        with self.locked(manifest.source, manifest.extracted_at):
            tables = [self._move_in(partition, table, staged[table.stream], manifest.run_id)
                      for table in manifest.tables]
            manifest = replace(manifest, tables=tables)
            temporary = self.staging(manifest.run_id) / MANIFEST
            temporary.parent.mkdir(exist_ok=True)
            temporary.write_text(manifest.to_json(), "utf-8")
            sync(temporary)
            for folder in {(partition / file.path).parent for table in tables for file in table.files}:
                sync(folder)
            partition.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, partition / MANIFEST)
            for folder in (partition, partition.parent, self.root):
                sync(folder)
            self._sweep(partition, manifest)
        return manifest

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
                shutil.rmtree(partition)
            lock.unlink()
        return True

    def _move_in(self, partition: Path, table: Table, paths: list[Path], run_id: str) -> Table:
        folder = partition / folder_name(table.stream)
        folder.mkdir(parents=True, exist_ok=True)
        moved = []
        for number, (path, file) in enumerate(zip(paths, table.files, strict=True)):
            name = (run_id if len(paths) == 1 else f"{run_id}-{number:04}") + files.suffix(path)
            if (folder / name).exists():
                raise ZoneError(
                    f"{folder / name} exists already: do two tables of {partition} differ only in case? "
                    "Deselect one of them under tap-postgres in meltano.yml and run again."
                )
            sync(path)
            os.replace(path, folder / name)
            moved.append(replace(file, path=f"{folder.name}/{name}"))
        return replace(table, files=moved)

    @contextlib.contextmanager
    def locked(self, source: str, day: date) -> Iterator[Path]:
        """Whoever changes a date does so alone. Who holds the lock's file may remove it, too."""
        path = self.root / STAGING / f"{source}@{day}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with path.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if _same(path, lock.fileno()):
                    yield path
                    return

    def unlisted(self, manifest: Manifest) -> list[Path]:
        """Files in a date's tables that its manifest does not list: certainly dead only while locked() is held."""
        partition = self.partition(manifest.source, manifest.extracted_at)
        listed = {partition / file.path for table in manifest.tables for file in table.files}
        return sorted({*partition.glob("table=*/*")} - listed)

    def _sweep(self, partition: Path, manifest: Manifest) -> None:
        """Remove what the manifest does not list."""
        for path in self.unlisted(manifest):
            path.unlink()
        for folder in partition.glob("table=*"):
            if not any(folder.iterdir()):
                folder.rmdir()


def combined(hashes: list[str]) -> str:
    """A table's hash: its file's; of several files, the hash of their hashes in order."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _same(path: Path, descriptor: int) -> bool:
    """Whether an open file still lies where it was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
