"""Input files by a path, which others write: one file, the *.csv files of a folder, or those that match a pattern."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from landing.storage.base import Object
from landing.storage.local import LocalInputs, LocalStorage, at

MISSING = "does not exist"  # a problem
NAMES = 2_000  # of a folder, that are looked at for similar ones


class Finder(Protocol):
    """Looks for files. Paths are given as they are declared; OSError where they cannot be listed."""

    def at(self, path: str) -> Object:
        """The file of exactly this path, whether it is there or not."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or a folder of exactly this path."""

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of exactly this path."""

    def files(self, path: str) -> Iterator[Object]:
        """What the path names, in order, each to be checked by problem()."""

    def found(self, path: str) -> bool:
        """Whether the path names anything. Cheap also for many paths of one folder."""

    def problem(self, file: Object) -> str | None:
        """Why it cannot be read, as a predicate; None if it can be."""

    def identity(self, file: Object) -> Hashable:
        """Equal for one file under two names."""

    def beside(self, file: Object) -> tuple[str, list[str]]:
        """The first part of its path that does not exist, and the paths of what is there instead."""


@dataclass(frozen=True)
class LocalFinder:
    """Files below a folder, or by absolute paths. Links are followed."""

    root: Path

    def at(self, path: str) -> Object:
        return _input(self.root / path)

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def is_folder(self, path: str) -> bool:
        return (self.root / path).is_dir()

    def files(self, path: str) -> Iterator[Object]:
        place = self.root / path
        if place.is_dir():
            found = sorted(one for one in place.iterdir() if is_csv(one.name))
        elif glob.has_magic(path) and not place.exists():
            found = map(Path, sorted(_matching(place)))  # errors are in a fixed order, too
        else:
            found = [place]
        return map(_input, found)

    def found(self, path: str) -> bool:
        return self.exists(path) or (glob.has_magic(path) and any(_matching(self.root / path)))

    def problem(self, file: Object) -> str | None:
        path = Path(str(file))
        if not path.exists():
            return MISSING
        return None if path.is_file() else "is not a regular file"

    def identity(self, file: Object) -> Hashable:
        return Path(str(file)).resolve()

    def beside(self, file: Object) -> tuple[str, list[str]]:
        path = Path(str(file))
        folder = next((parent for parent in path.parents if parent.is_dir()), None)
        if folder is None:
            return "", []
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in itertools.islice(entries, NAMES))
        return path.relative_to(folder).parts[0], [str(folder / name) for name in names]


def local_path(file: Object) -> Path | None:
    """Where another program can open a file; None if only its storage can."""
    return file.storage.root / file.key if isinstance(file.storage, LocalStorage) else None


def local_file(path: Path) -> Object:
    """A file of our own, such as a copy."""
    return at(path)


def is_csv(name: str) -> bool:
    """Whether a folder's file of this name is among those to read."""
    return name[:1] != "." and PurePosixPath(name).suffix.lower() == ".csv"


def _input(path: Path) -> Object:
    return Object(LocalInputs(path.parent), path.name)


def _matching(place: Path) -> Iterator[str]:
    return glob.iglob(str(place), recursive=True)
