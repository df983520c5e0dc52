"""From the name of an input file, or the path that names several, to where it is.

A name is relative to the project, an absolute path, or the URL of a key, in which nothing is escaped.
"""

from __future__ import annotations

import glob
import os
from functools import cache
from pathlib import Path

from landing.core import settings
from landing.storage.base import Object, Storage
from landing.storage.finding import Finder, LocalFinder
from landing.storage.keys import URL, KeyFinder

SCHEMES = ("s3", "gs", "az")


def check_path(path: str) -> None:
    """Raise ValueError for a URL of anything but a bucket or container."""
    if (found := URL.match(path)) and (found[1] not in SCHEMES or not found[2]):
        raise ValueError("is a URL that cannot be read. Expected a path, or s3://BUCKET/…, gs://BUCKET/… or "
                         "az://CONTAINER/…")


def finder_of(path: str) -> Finder:
    """What finds the files of a path. Raises SettingError if its bucket cannot be opened."""
    if found := URL.match(path):
        return KeyFinder(_bucket(f"{found[1]}://{found[2]}"), fixed_folders(found[3]))
    return LocalFinder(settings.root())


def locate(name: str) -> Object:
    """The file of this name."""
    return finder_of(name).at(name)


def name_of(file: Object) -> str:
    """Relative to the project, so that a project can be moved without changing what is landed."""
    return str(file).removeprefix(f"{settings.root()}/")


def fixed_folders(path: str) -> int:
    """How many folders of a path come before its first wildcard or placeholder."""
    folders = path.split("/")[:-1]
    return next((number for number, one in enumerate(folders) if glob.has_magic(one) or "{" in one), len(folders))


def segments(path: str) -> list[str]:
    """The parts of a path or a URL, the same for the same place."""
    if URL.match(path):
        return path.rstrip("/").split("/")
    return os.path.normpath(settings.root() / path).split("/")


@cache
def _bucket(url: str) -> Storage:
    from landing.storage.urls import storage

    return storage(url)


def is_link(file: Object) -> bool:
    """Whether it is a link to another file."""
    return Path(str(file)).is_symlink()
