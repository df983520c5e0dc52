"""What the project and its environment say: declared sources, dates, the landing root, the commands to run next."""

from __future__ import annotations

import shlex
from datetime import date

from landing.core.sources import JOB_PREFIX


def extract_command(source: str, day: date) -> str:
    """What to type to land one source for one date."""
    said = shlex.quote(source)  # a folder's name, too, that somebody else may have made
    return f"MELTANO_ENVIRONMENT=extract SOURCE={said} DATESTAMP={day} meltano run {JOB_PREFIX}{said}"


def load_command(day: date, schema: str) -> str:
    """What to type to load one date."""
    return f"MELTANO_ENVIRONMENT=load SCHEMA={shlex.quote(schema)} EXTRACTED_AT={day} meltano run load_to_postgres"
