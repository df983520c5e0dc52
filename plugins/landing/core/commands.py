"""The retry commands that messages print."""

from __future__ import annotations

import shlex
from datetime import date

from landing.core.sources import JOB_PREFIX


def extract_command(source: str, day: date) -> str:
    """The shell command that lands one source for one date."""
    name = shlex.quote(source)  # may be the name of any directory in the landing zone
    return f"MELTANO_ENVIRONMENT=extract SOURCE={name} DATESTAMP={day} meltano run {JOB_PREFIX}{name}"


def load_command(day: date, schema: str) -> str:
    """The shell command that loads one date."""
    return f"MELTANO_ENVIRONMENT=load SCHEMA={shlex.quote(schema)} EXTRACTED_AT={day} meltano run load_to_postgres"
