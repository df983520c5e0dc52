"""The files of an entity: what its path means on a date."""

from __future__ import annotations

import difflib
from collections.abc import Hashable
from datetime import date

from landing.core.errors import SettingError, SourceError
from landing.extract.csv.dated_path import DatedPath
from landing.storage.base import Object
from landing.storage.finding import MISSING
from landing.storage.names import finder_of

LISTED = 5  # similar names or dates in a message


class EntityFiles:
    """The file, the *.csv files of a folder, or those that match a pattern."""

    def __init__(self, entity: str, path: DatedPath, day: date) -> None:
        """Raises SettingError if a path with a placeholder is also a file of just that name."""
        self.entity, self.dated_path, self.day = entity, path, day
        self.path = path.on(day)
        self._finder = finder_of(path.declared)
        if self.path != path.declared and self._finder.exists(path.declared):
            raise SettingError(
                f"tap-csv, entity {entity!r}: path={path.declared!r} means {self.path!r} on {day}, but there is also "
                "a file of just that name. To mean that file, double each brace: {{ and }}. Else rename it. Run again.")

    def found(self, *, needed: bool = True) -> list[Object]:
        """All files, by name; without any, an empty list or, if some are `needed`, an error.

        Raises:
            SourceError: There is none, or one is not a regular file or occurs twice (by links).
        """
        found: dict[Hashable, Object] = {}
        place = self._finder.at(self.path)
        try:
            for file in self._finder.files(self.path):
                if problem := self._finder.problem(file):
                    if problem != MISSING:
                        raise self._unusable(file, problem)
                    if not needed and str(file) == str(place):
                        return []
                    raise self._missing(file, problem)
                other = found.setdefault(self._finder.identity(file), file)
                if other is not file:  # a link to a parent folder repeats every file endlessly
                    raise self._unusable(file, f"is the same file as {other}: its rows would be landed twice")
            if not found and needed:
                empty = self._finder.is_folder(self.path)
                raise self._missing(place, "is a folder without *.csv files" if empty else MISSING)
        except OSError as error:
            raise self._unusable(place, f"cannot be read ({error.strerror})") from None
        return sorted(found.values(), key=lambda file: str(file).split("/"))

    def _missing(self, place: Object, what: str) -> SourceError:
        """An error that says what there is instead: other dates, or similar names."""
        if self.dated_path.dated:
            what += f" (path {self.dated_path.declared!r} for {self.day})"
            if days := self.dated_path.nearest(self.day, LISTED, self._finder.found):
                return self._unusable(place, f"{what}. Nearest dates with a file: {', '.join(map(str, days))}")
        names = self._similar(place)
        return self._unusable(place, f"{what}. There is: {', '.join(names)}" if names else what)

    def _similar(self, place: Object) -> list[str]:
        """Files beside a missing one with a similar name: a typo, or another format of the date, is seen."""
        wanted, there = self._finder.beside(place)
        by_name = {path.rpartition("/")[2]: path for path in there}
        return [by_name[name] for name in difflib.get_close_matches(wanted, by_name, LISTED, 0.3)]

    def _unusable(self, place: Object, what: str) -> SourceError:
        return SourceError(
            f"tap-csv, entity {self.entity}: {place} {what}. Nothing of this source's date was committed. Provide the "
            "file, or change the entity's path under tap-csv in meltano.yml, and run again.")
