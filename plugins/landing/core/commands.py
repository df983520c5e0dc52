"""The retry commands that messages print."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from datetime import date

from landing.core.dates import today
from landing.core.sources import JOB_PREFIX, has_files_of_each_date

COMMANDS = re.compile(r"(?:[A-Z][A-Z_]*=(?:'[^']*'|[^\s']+) )*meltano run [\w.'-]+|(?<=`)landing [^`]+(?=`)|make \w+")


def named(text: str) -> list[str]:
    """The commands that a message tells to run."""
    return [found.rstrip(".") for found in COMMANDS.findall(text)]


def extract_command(source: str, day: date) -> str:
    """The shell command that lands one source for one date."""
    name = shlex.quote(source)  # may be the name of any directory in the landing zone
    return f"MELTANO_ENVIRONMENT=extract SOURCE={name} DATESTAMP={day} meltano run {JOB_PREFIX}{name}"


def load_command(day: date, schema: str) -> str:
    """The shell command that loads one date."""
    return f"MELTANO_ENVIRONMENT=load SCHEMA={shlex.quote(schema)} EXTRACTED_AT={day} meltano run load_to_postgres"


def how_to_land(sources: Sequence[str], day: date, without: Sequence[str] = (), *, partly: bool = False) -> str:
    """What to do about sources that are not landed for a date.

    On its own day, or from files of that day, the extract. Later, an extract would take today's rows: a choice for a
    person to make.

    Args:
        sources: The sources.
        day: The date.
        without: Sources that WITHOUT_SOURCES leaves out already.
        partly: Whether another source of the date is landed: only then it can be loaded without these.
    """
    late = [one for one in sources if day < today() and not has_files_of_each_date(one, day)]
    own = [one for one in sources if one not in late]
    steps = [f"Land {', '.join(own) if late or len(own) > 1 else 'it'} first: {_extracts(own, day)}"] if own else []
    if late:
        of = f" of {', '.join(late)}" if own else ""
        steps.append(f"That day is past, so an extract{of} now takes today's rows")
        if partly or own:
            steps.append(f"To load the date without {', '.join(late)}: {without_command([*without, *late], day)}")
        steps.append(f"To accept today's rows as those of {day}: {_extracts(late, day)}")
    return ". ".join(steps)


def _extracts(sources: Sequence[str], day: date) -> str:
    return " && ".join(extract_command(one, day) for one in sources)


def without_command(sources: Iterable[str], day: date) -> str:
    """The shell command that loads a date without some of its sources."""
    return f"WITHOUT_SOURCES={shlex.quote(','.join(sources))} {load_command(day, os.environ.get('SCHEMA', 'public'))}"


def transform_command(day: date, schema: str) -> str:
    """The shell command that builds and tests the models of one date."""
    return f"SCHEMA={shlex.quote(schema)} EXTRACTED_AT={day} meltano run transform"


def move_command(schema: str) -> str:
    """The shell command that moves tables to where the setting `table_names` has them."""
    return f"meltano invoke landing move --schema {shlex.quote(schema)} --yes"


def how_to_repair(source: str, day: date) -> str:
    """What to do about damaged files of a partition. An extract of a past day would replace its rows by today's."""
    command = f"REEXTRACT=true {extract_command(source, day)}"
    if day >= today() or has_files_of_each_date(source, day):
        return f"Restore it, or run again: {command}"
    return f"Restore it from a backup. To replace that day's rows by today's instead: {command}"
