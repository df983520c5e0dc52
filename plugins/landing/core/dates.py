"""Dates of runs: UTC calendar dates, never in the future."""

from __future__ import annotations

import contextlib
import os
import re
from datetime import UTC, date, datetime

from landing.core.errors import SettingError


def today() -> date:
    """Today's date in UTC, whatever the machine's time zone."""
    return datetime.now(UTC).date()


def parse_date(text: str, where: str, unset: str = "") -> date:
    """Parse a UTC calendar date.

    Args:
        text: The date.
        where: The variable, option or argument that it comes from.
        unset: What the refusal says of leaving it out, if it may be left out.

    Raises:
        SettingError: The text is not exactly `YYYY-MM-DD`, or no such date exists.
    """
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError:
        raise SettingError(
            f"{where}={text!r} is not a date. Expected a calendar date as YYYY-MM-DD, such as {_meant(text) or today()}"
            f"{unset}."
        ) from None


def _meant(text: str) -> date | None:
    """The date that a text in another order of year, month, day can only mean."""
    found = re.fullmatch(r"([0-9]{4})[-/. ]?([0-9]{1,2})[-/. ]?([0-9]{1,2})", text.strip())
    with contextlib.suppress(ValueError):
        return date(*map(int, found.groups())) if found else None
    return None


def run_date(variable: str, configured: str | None = None) -> date:
    """The date of this run: the setting, else the variable, else today in UTC. An empty value is an error."""
    text = os.environ.get(variable) if configured is None else str(configured)
    unset = "; leave it unset for today (UTC)"
    return today() if text is None else refuse_future(parse_date(text, variable, unset), variable)


def refuse_future(day: date, where: str) -> date:
    """Return a date that may be landed or loaded.

    Raises:
        SettingError: The date is in the future: views would show it until that day, whatever is loaded meanwhile.
    """
    if day > today():
        raise SettingError(f"{where}={day} is in the future: today in UTC is {today()}. Nothing was landed or loaded. "
                           f"Run again with {where}={today()} or an earlier date.")
    return day


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)
