"""The files that each entity of a source reads for a date.

That is what its path finds. With `after_landing.done` it is without files that are landed for another date and wait to
be moved, and with those that the date has landed before, from where they were moved to: taking a date again replaces
all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

from landing.core.errors import DamagedError, SettingError, SourceError
from landing.core.sources import is_of_one_date
from landing.extract.csv.declaration import Declaration
from landing.model.inputs import Input
from landing.model.manifest import Manifest
from landing.storage.base import Object
from landing.storage.names import is_link, locate, name_of
from landing.zone import moves
from landing.zone.landing_zone import LandingZone

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InputFile:
    """A file to read.

    Attributes:
        place: Where it is.
        name: Where its entity's path found it.
        done: Where it is to be, or is, once it is landed; None: it stays.
        moved: Whether it is there already.
    """

    place: Object
    name: str
    done: str | None = None
    moved: bool = False


class SourceInputs:
    """The files of a source's entities for one date."""

    def __init__(self, zone: LandingZone, source: str, declarations: Sequence[Declaration], *, past: bool) -> None:
        """`past`: whether the date is over, so that what a path without a date finds now is not that date's."""
        self.zone, self.source, self.past = zone, source, past
        self.declarations = {one.entity: one for one in declarations}

    def complete_moves(self) -> None:
        """Complete the moves of runs that were killed after their commit."""
        if any(one.after.done for one in self.declarations.values()):
            moves.complete(self.zone, self.source, self._wanted)

    def _wanted(self, entity: str, one: Input, day: date) -> bool:
        """Whether a move is still declared: a list is only a file in the landing zone."""
        declaration = self.declarations.get(entity)
        after = declaration and replace(declaration, day=day).after
        if after and after.names(one.file) and after.holds(one.done):
            return True
        logger.warning("%s is landed for %s, and is not moved to %s: entity %s is not declared so any more.", one.file,
                       day, one.done, entity)
        return False

    def of(self, declaration: Declaration) -> list[InputFile]:
        """The files of an entity, by name. Raises SourceError as EntityFiles does."""
        after, day = declaration.after, declaration.day
        if after.done is None:
            return [InputFile(place, name_of(place)) for place in declaration.files()]
        landed = self._landed.inputs.get(declaration.entity, []) if self._landed else []
        found: dict[str, InputFile] = {}
        if not (landed and self.past and not is_of_one_date(declaration.path, day)):
            found = self._new(declaration, needed=not landed)
        again = [self._again(declaration, one) for one in landed if one.file not in found]
        return sorted([*found.values(), *again], key=lambda one: one.name.split("/"))

    def _new(self, declaration: Declaration, *, needed: bool) -> dict[str, InputFile]:
        found: dict[str, InputFile] = {}
        waiting: dict[str, date] = {}
        for place in declaration.files(needed=needed):
            name = _checked(declaration, place)
            if self._waiting and (day := self._waiting.get((name, place.version()))):
                waiting[name] = day
            else:
                found[name] = InputFile(place, name, declaration.after.target(declaration.after.done, place))
        if waiting:
            logger.warning("%s: %s left out, which %s landed for other dates and could not be moved.",
                           declaration.entity, ", ".join(waiting), "is" if len(waiting) == 1 else "are")
        if needed and not found:
            raise SourceError(
                f"tap-csv, entity {declaration.entity}: there is no new file for {declaration.day}: "
                f"{', '.join(f'{name} is landed for {day}' for name, day in waiting.items())}. Nothing of this "
                "source's date was committed. Provide a file, and run again.")
        return found

    def _again(self, declaration: Declaration, one: Input) -> InputFile:
        """A landed file where it is now, or was left by a move that failed."""
        after = declaration.after
        for name in (one.done, moves.with_run_id(one.done, self._landed.run_id)):
            if after.holds(name) and locate(name).size() is not None:
                return InputFile(locate(name), one.file, name, moved=True)
        if after.names(one.file) and locate(one.file).version() == one.version:
            return InputFile(locate(one.file), one.file, one.done)
        outside = "" if after.holds(one.done) else ", which is not below after_landing.done as it is declared now"
        raise SourceError(
            f"tap-csv, entity {declaration.entity}: {one.file} is landed for {declaration.day} and was moved to "
            f"{one.done}{outside}; it is not there. Nothing of this source's date was committed. Put it back, or, to "
            f"land the date without it, `landing drop {declaration.day} --source {self.source} --yes`, and run again.")

    @cached_property
    def _landed(self) -> Manifest | None:
        """The manifest of the date; None if it is damaged, too: taking the date again replaces it."""
        day = next(iter(self.declarations.values())).day
        try:
            return self.zone.manifest(self.source, day)
        except DamagedError as error:
            logger.warning("%s Files that it has landed and moved are not read again.", error)
            return None

    @cached_property
    def _waiting(self) -> Mapping[tuple[str, str], date]:
        return moves.waiting(self.zone, self.source, next(iter(self.declarations.values())).day)


def refuse_conflicts(read: Mapping[str, Sequence[InputFile]]) -> None:
    """Raise SettingError if two entities read the same file and want it moved to different places."""
    wanted: dict[str, tuple[str, str]] = {}
    for entity, files in read.items():
        for one in (one for one in files if one.done and not one.moved):
            other, done = wanted.setdefault(one.name, (entity, one.done))
            if done != one.done:
                raise SettingError(f"tap-csv: entities {other!r} and {entity!r} both read {one.name}, and want it in "
                                   f"{done} and {one.done}. Give them the same after_landing.done, and run again.")


def _checked(declaration: Declaration, place: Object) -> str:
    """The name of a file that can be moved. Raises SourceError for any other."""
    name, what = name_of(place), None
    if is_link(place):
        what = "is a link, and only files can be moved"
    if name.encode(errors="replace").decode() != name:
        what = "has a name that is not UTF-8"
    if what:
        raise SourceError(f"tap-csv, entity {declaration.entity}: {place} {what} (after_landing.done). Nothing of this "
                          "source's date was committed. Put the file itself there, named in UTF-8, or leave out "
                          "after_landing.done, and run again.")
    return name
