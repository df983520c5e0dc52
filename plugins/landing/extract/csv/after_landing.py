"""What becomes of an entity's files: `after_landing: {done: …, failed: …}`, each a folder or the prefix of a URL."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

from landing.extract.csv.dated_path import DatedPath
from landing.storage.base import Object
from landing.storage.names import check_path, locate, name_of, segments

OPTIONS = ("done", "failed")


@dataclass(frozen=True)
class AfterLanding:
    """Where the files of one entity go, for one date; None: they stay.

    Attributes:
        path: What the entity reads.
        done: Where files go after the commit.
        failed: Where a refused file goes.
    """

    path: str
    done: str | None = None
    failed: str | None = None

    @classmethod
    def of(cls, settings: Any, path: str, day: date) -> AfterLanding:
        """Read the option of an entity. Raises ValueError if it cannot mean anything."""
        if not isinstance(settings, Mapping) or not settings or {*settings} - {*OPTIONS}:
            raise ValueError("after_landing is not a map with done, failed or both")
        found = {option: cls._folder(option, folder, day) for option, folder in settings.items()}
        own = cls(path, **found)
        for option, folder in found.items():
            if any(own._finds(one) for one in own._targets(folder)):
                raise ValueError(f"after_landing.{option}={settings[option]!r} is where path={path!r} looks for files, "
                                 "so they would be landed again")
        return own

    @staticmethod
    def _folder(option: str, folder: Any, day: date) -> str:
        where = f"after_landing.{option}={folder!r}"
        if not isinstance(folder, str) or not folder.strip("/") or "\0" in folder:
            raise ValueError(f"{where} is not a folder or the URL of a prefix")
        try:
            check_path(folder)
            text = DatedPath(folder).on(day).rstrip("/")
        except ValueError as error:
            raise ValueError(f"{where} {error}") from None
        if ".." in text.split("/"):
            raise ValueError(f"{where} has `..` in it")
        return text

    @property
    def base(self) -> str:
        """The folder below which moved files keep their sub-folders."""
        parts = self.path.split("/")
        count = next((number for number, one in enumerate(parts) if glob.has_magic(one)), len(parts))
        return "/".join(parts[:count])

    def target(self, folder: str, file: Object) -> str:
        """The name of a file in one of the folders."""
        above, name = f"{locate(self.base)}/", str(file)
        inside = name.removeprefix(above) if name.startswith(above) else name.rpartition("/")[2]
        return name_of(locate(f"{folder}/{inside}"))

    def names(self, name: str) -> bool:
        """Whether a recorded name is that of a file which the path may find."""
        return self._finds(segments(name)[:-1])

    def holds(self, name: str) -> bool:
        """Whether a recorded name is that of a file in `done`."""
        return self.done is not None and segments(name)[:-1][:len(segments(self.done))] == segments(self.done)

    def _targets(self, folder: str) -> Iterator[list[str]]:
        """Folders that moved files may come to."""
        below = self.path.split("/")[:-1][len(self.base.split("/")):] if glob.has_magic(self.path) else []
        yield segments(folder)
        yield [*segments(folder), *(one for one in below if one != "**")]

    def _finds(self, folder: Sequence[str]) -> bool:
        """Whether the path finds files directly in a folder."""
        own = segments(self.path)
        if not glob.has_magic(self.path):
            return folder in (own, own[:-1])
        return _fit(folder, own if own[-1] == "**" else own[:-1])


def _fit(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether the parts of a path fit a pattern."""
    if not patterns:
        return not names
    first, *rest = patterns
    if first == "**":
        return any(_fit(names[count:], rest) for count in range(len(names) + 1))
    return bool(names) and (fnmatchcase(names[0], first) or names[0] == first) and _fit(names[1:], rest)
