"""Moves input files to where their settings want them once their rows are committed.

A run lists its moves in the landing zone before its commit, and removes the list when they are made. So whoever looks
next, for whatever date, completes the moves of a run that was killed between the two: if the manifest has its run id,
its files are landed, and they are never landed again. Commits and moves of a source exclude each other where the
storage has locks.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import PurePosixPath

import msgspec
from msgspec import Struct, structs

from landing.core.errors import DamagedError, LandingError, UnknownOutcomeError, ZoneError, describe
from landing.model.inputs import Input
from landing.model.manifest import Manifest
from landing.model.naming import RunId
from landing.model.validation import Text
from landing.storage.moving import ReplacedError, move
from landing.storage.names import locate
from landing.zone import layout
from landing.zone.landing_zone import LandingZone

logger = logging.getLogger(__name__)
LARGEST = 64 << 20  # bytes of a list
Inputs = Mapping[str, Sequence[Input]]  # by entity
Check = Callable[[], None]


class MoveList(Struct, frozen=True, kw_only=True):
    """The files that a run moves after its commit."""

    source: Text
    extracted_at: date
    run_id: RunId
    inputs: dict[Text, list[Input]]

    @property
    def key(self) -> str:
        """Where it is kept."""
        return layout.moves(self.source, self.run_id)


@contextlib.contextmanager
def moved_after(
    zone: LandingZone, manifest: Manifest, inputs: Inputs, check: Check,
) -> Iterator[tuple[Manifest, Check]]:
    """Commit within this context; at its end the files are moved. A file that cannot be moved is a warning.

    Args:
        zone: Where the commit is made.
        manifest: What is committed.
        inputs: The files, and where they should be.
        check: What the commit checks under the partition's lock.

    Returns:
        The manifest with its inputs, and the check to commit with.
    """
    if not inputs:
        yield manifest, check
        return
    todo = MoveList(source=manifest.source, extracted_at=manifest.extracted_at, run_id=manifest.run_id,
                    inputs=_planned(inputs, manifest.run_id))

    def checked() -> None:
        check()
        _refuse_landed(zone, todo)
        put(zone, todo)

    with zone.storage.lock(layout.moves_lock(todo.source)):
        try:
            yield structs.replace(manifest, inputs=todo.inputs), checked
        except UnknownOutcomeError:
            raise  # it may be committed yet
        except LandingError:
            if is_committed(zone, todo) is False:
                _forget(zone, todo)
            raise
        carry_out(zone, todo)


def _planned(inputs: Inputs, run_id: str) -> dict[str, list[Input]]:
    """With a name that is free for each file."""
    names: dict[str, str] = {}  # by file: two entities may read the same
    for one in (one for some in inputs.values() for one in some if not one.moved):
        if one.file not in names:
            taken = {*names.values()}
            free = (name for name in _names(one.done, run_id) if name not in taken and locate(name).size() is None)
            names[one.file] = next(free)
    return {entity: [one if one.moved else structs.replace(one, done=names[one.file]) for one in some]
            for entity, some in inputs.items()}


def _names(name: str, run_id: str) -> Iterator[str]:
    """A file's name, then others with the run id in them."""
    yield name
    yield with_run_id(name, run_id)
    for number in range(2, 10_000):
        yield with_run_id(name, f"{run_id}-{number}")


def with_run_id(name: str, run_id: str) -> str:
    """`sales.csv` as `sales.<run id>.csv`."""
    folder, _, last = name.rpartition("/")
    suffix = PurePosixPath(last).suffix
    return f"{folder}/{last.removesuffix(suffix)}.{run_id}{suffix}"


def _refuse_landed(zone: LandingZone, todo: MoveList) -> None:
    """Raise ZoneError if another run has landed one of these files meanwhile, as far as that can be seen."""
    landed = waiting(zone, todo.source, todo.extracted_at)
    for one in (one for some in todo.inputs.values() for one in some if not one.moved):
        if (one.file, one.version) in landed or locate(one.file).version() is None:
            raise ZoneError(f"{one.file} is no longer there for {todo.source} of {todo.extracted_at}: another run may "
                            "have landed it. Nothing was committed. Run again.")


def carry_out(zone: LandingZone, todo: MoveList) -> None:
    """Make the moves of a committed run, and keep a list of those that failed."""
    left, moved = {}, 0
    for entity, inputs in todo.inputs.items():
        failed = [one for one in inputs if not one.moved and not _moved(one, todo)]
        moved += len(inputs) - len(failed)
        left |= {entity: failed} if failed else {}
    logger.info("%s of %s: %d landed files are in place.", todo.source, todo.extracted_at, moved)
    try:
        if not left:
            _forget(zone, todo)
        elif left != todo.inputs:
            put(zone, structs.replace(todo, inputs=left))
            zone.discard(todo.run_id)  # a work area that this may have made
    except OSError as error:
        logger.warning("%s cannot be changed: %s", zone.storage.describe(todo.key), describe(error))


def _moved(one: Input, todo: MoveList) -> bool:
    """Whether a file needs no further move."""
    for name in (one.done, with_run_id(one.done, todo.run_id)):
        try:
            move(locate(one.file), one.version, locate(name), todo.run_id)
            return True
        except FileExistsError:
            continue
        except ReplacedError:
            logger.warning("%s was replaced or removed after it was landed for %s, so it is not moved to %s.", one.file,
                           todo.extracted_at, one.done)
            return True
        except OSError as error:
            logger.warning(
                "%s is landed and committed for %s, but cannot be moved to %s (%s). It is not landed again, and the "
                "next run of %s tries to move it. Grant the right to, or move it yourself.", one.file,
                todo.extracted_at, one.done, describe(error), todo.source)
            return False
    logger.warning("%s cannot be moved to %s: the name is taken. Move it yourself.", one.file, one.done)
    return False


def complete(zone: LandingZone, source: str, allowed: Callable[[str, Input, date], bool]) -> None:
    """Complete the moves of runs that were killed, and forget lists of runs that did not commit.

    Args:
        zone: Where the lists are.
        source: Whose.
        allowed: Whether an entity's settings still want a move.
    """
    if not zone.storage.files(f"{layout.MOVES}/{source}"):
        return
    with zone.storage.lock(layout.moves_lock(source)):
        for todo in lists(zone, source):
            committed = is_committed(zone, todo)
            if committed:
                wanted = {entity: [one for one in inputs if allowed(entity, one, todo.extracted_at)]
                          for entity, inputs in todo.inputs.items()}
                carry_out(zone, structs.replace(todo, inputs=wanted))
            elif committed is False and not zone.storage.in_place:  # under the lock: it is dead
                _forget(zone, todo)


def waiting(zone: LandingZone, source: str, day: date) -> dict[tuple[str, str], date]:
    """Files by name and version that are landed for other dates than `day`, and not moved yet."""
    return {(one.file, one.version): todo.extracted_at for todo in lists(zone, source)
            if todo.extracted_at != day and is_committed(zone, todo) is not False
            for inputs in todo.inputs.values() for one in inputs}


def lists(zone: LandingZone, source: str) -> list[MoveList]:
    """All lists of a source, in the order of their runs."""
    return [found for key in zone.storage.files(f"{layout.MOVES}/{source}") if (found := read(zone, key))]


def read(zone: LandingZone, key: str) -> MoveList | None:
    """A list; None if it is gone. One that is none is said, and left out."""
    try:
        found = msgspec.json.decode(zone.storage.read(key, LARGEST), type=MoveList)
        if found.key != key:
            raise ValueError(f"it is for {found.key}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s), so the moves that it lists are not made.",
                       zone.storage.describe(key), error)
        return None
    return found


def is_committed(zone: LandingZone, todo: MoveList) -> bool | None:
    """Whether the run of a list has committed; None if its manifest is damaged."""
    try:
        return zone.summary(todo.source, todo.extracted_at, todo.run_id) is not None
    except DamagedError:
        return None


def put(zone: LandingZone, todo: MoveList) -> None:
    """Write a list, over what it was before."""
    zone.storage.put(todo.key, json.dumps(msgspec.to_builtins(todo), ensure_ascii=False).encode(),
                     f"{layout.staging(todo.run_id)}/moves.json", zone.storage.version(todo.key),
                     contextlib.nullcontext())
    zone.storage.flush(todo.key.rpartition("/")[0])


def _forget(zone: LandingZone, todo: MoveList) -> None:
    zone.storage.delete(todo.key, up_to=layout.MOVES)
