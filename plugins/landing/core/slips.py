"""Slips in a run's variables that its messages name: the environment of the other job, the date of the other job."""

from __future__ import annotations

import os

from landing.core.dates import today

DATES = {"DATESTAMP": "an extract", "EXTRACTED_AT": "a load"}


def other_date(used: str) -> str | None:
    """What to say if only the other job's date variable is set: this job ignores it, and takes today."""
    other, = DATES.keys() - {used}
    if used in os.environ or not (value := os.environ.get(other)):
        return None
    return (f"{other}={value} is the date of {DATES[other]}; {DATES[used]} uses {used}, which is unset, so the date is "
            f"today, {today()}.")


def environment() -> str:
    """The Meltano environment of this run, for a message."""
    return f"MELTANO_ENVIRONMENT is {os.environ.get('MELTANO_ENVIRONMENT') or 'unset'}"
