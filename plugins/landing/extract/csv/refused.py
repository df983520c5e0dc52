"""Moves a refused file to `after_landing.failed`, with the reasons beside it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import date

from landing.core.dates import now
from landing.core.errors import BadFileError, UnsettledFileError, ZoneError, describe, printable
from landing.extract.csv.declaration import Declaration
from landing.extract.csv.text import CsvText
from landing.storage.base import Object
from landing.storage.moving import ReplacedError, move
from landing.storage.names import locate, name_of
from landing.zone.moves import with_run_id

REASONS = ".reasons.json"


@contextlib.contextmanager
def moved_if_refused(declaration: Declaration, texts: Sequence[CsvText], source: str, run_id: str) -> Iterator[None]:
    """Read these files within this context. A refusal moves those at fault, and says so."""
    try:
        yield
    except UnsettledFileError:  # it may be right
        raise
    except BadFileError as error:
        at_fault = [text for text in texts if any(text.place is one for one in error.files)]
        for text in at_fault if declaration.after.failed else ():
            error.add(_set_aside(error, declaration, text, source, run_id))
        raise


def _set_aside(error: BadFileError, declaration: Declaration, text: CsvText, source: str, run_id: str) -> str:
    """Move one file; returns what became of it, as a sentence. A kill leaves the reasons, and the file where it was."""
    target = declaration.after.target(declaration.after.failed, text.place)
    for name in (target, with_run_id(target, run_id)):
        place = locate(name)
        try:
            if place.size() is not None and name == target:
                continue
            _put(locate(name + REASONS), _reasons(error, declaration, text, source), run_id)
            move(text.place, text.version, place, run_id)
        except FileExistsError:
            continue
        except ReplacedError:
            return f"{text.name} was replaced meanwhile, so it stays."
        except (OSError, ZoneError) as failure:
            why = describe(failure) if isinstance(failure, OSError) else str(failure)
            return f"{text.name} could not be moved to {name} ({why})."
        return f"It is now {name}, and the reasons are in {name_of(place)}{REASONS}. Put the corrected file back."
    return f"{text.name} could not be moved to {target}: the name is taken."


def _put(place: Object, content: bytes, run_id: str) -> None:
    """Write the reasons, over those of an earlier refusal."""
    folder, _, name = place.key.rpartition("/")
    scratch = f"{folder}/.{name}.{run_id}" if folder else f".{name}.{run_id}"
    place.storage.put(place.key, content, scratch, place.version(), contextlib.nullcontext())


def _reasons(error: BadFileError, declaration: Declaration, text: CsvText, source: str) -> bytes:
    first = text.place is error.files[0]
    found: dict[str, str | int | date | None] = {
        "source": source, "date": str(declaration.day), "entity": declaration.entity, "file": text.name,
        "line": error.line if first else None, "column": error.column if first else None,
        "reason": printable(error.reason), "refused_at": now().isoformat(timespec="seconds"),
        "what_to_do": f"Correct the file, or its declaration under tap-csv in meltano.yml, put the file back as "
                      f"{text.name}, and run again.",
    }
    return (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
