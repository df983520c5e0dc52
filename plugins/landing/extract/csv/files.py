"""The files of an entity: what its path means on a date."""

from __future__ import annotations

import difflib
import glob
import itertools
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from landing.core import settings
from landing.core.errors import SettingError, SourceError
from landing.extract.csv.dated_path import DatedPath

LISTED = 5  # similar names or dates in a message
SEARCHED = 2_000  # names of a folder


class EntityFiles:
    """The file, the *.csv files of a folder, or those that match a pattern."""

    def __init__(self, entity: str, path: DatedPath, day: date) -> None:
        """Raises SettingError if a path with a placeholder is also a file of just that name."""
        self.entity, self.dated_path, self.day = entity, path, day
        self.path = path.on(day)
        self.place = settings.root() / self.path
        if self.path != path.declared and (settings.root() / path.declared).exists():
            raise SettingError(
                f"tap-csv, entity {entity!r}: path={path.declared!r} means {self.path!r} on {day}, but there is also "
                "a file of just that name. To mean that file, double each brace: {{ and }}. Else rename it. Run again.")

    def paths(self) -> list[Path]:
        """All files, by name.

        Raises:
            SourceError: There is none, or one is not a regular file or occurs twice (by links).
        """
        found: dict[Path, Path] = {}  # by resolved path
        try:
            for path in self._matches():
                if not path.exists():
                    raise self._missing(path, "does not exist")
                if not path.is_file():
                    raise self._unusable(path, "is not a regular file")
                other = found.setdefault(path.resolve(), path)
                if other is not path:  # a link to a parent folder repeats every file endlessly
                    raise self._unusable(path, f"is the same file as {other}: its rows would be landed twice")
        except OSError as error:
            raise self._unusable(self.place, f"cannot be read ({error.strerror})") from None
        if not found:
            raise self._missing(
                self.place, "is a folder without *.csv files" if self.place.is_dir() else "does not exist")
        return sorted(found.values())

    def _matches(self) -> Iterator[Path]:
        if self.place.is_dir():
            listed = (path for path in self.place.iterdir() if path.suffix.lower() == ".csv" and path.name[0] != ".")
            return iter(sorted(listed))
        if glob.has_magic(self.path) and not self.place.exists():
            return map(Path, sorted(_matching(self.place)))  # errors are in a fixed order, too
        return iter([self.place])

    def _missing(self, path: Path, what: str) -> SourceError:
        """An error that says what there is instead: other dates, or similar names."""
        if self.dated_path.dated:
            what += f" (path {self.dated_path.declared!r} for {self.day})"
            if days := self.dated_path.nearest(self.day, LISTED, _exists):
                return self._unusable(path, f"{what}. Nearest dates with a file: {', '.join(map(str, days))}")
        names = _similar(path)
        return self._unusable(path, f"{what}. There is: {', '.join(map(str, names))}" if names else what)

    def _unusable(self, path: Path, what: str) -> SourceError:
        return SourceError(
            f"tap-csv, entity {self.entity}: {path} {what}. Nothing of this source's date was committed. Provide the "
            "file, or change the entity's path under tap-csv in meltano.yml, and run again.")


def _matching(place: Path) -> Iterator[str]:
    return glob.iglob(str(place), recursive=True)


def _exists(path: str) -> bool:
    place = settings.root() / path
    return place.exists() or (glob.has_magic(path) and any(_matching(place)))


def _similar(path: Path) -> list[Path]:
    """Files beside a missing one with a similar name: a typo, or another format of the date, is seen."""
    folder = next((parent for parent in path.parents if parent.is_dir()), None)
    if folder is None:
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in itertools.islice(entries, SEARCHED))
    wanted = path.relative_to(folder).parts[0]
    return [folder / name for name in difflib.get_close_matches(wanted, names, LISTED, 0.3)]
