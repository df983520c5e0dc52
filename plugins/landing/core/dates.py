"""What the project and its environment say: declared sources, dates, the landing root, the commands to run next."""

from __future__ import annotations

import os
import re
from datetime import date, datetime, timezone

from landing.core.errors import SettingError


def today() -> date:
    """Today's date in UTC, whatever the machine's time zone."""
    return datetime.now(timezone.utc).date()


def parse_date(text: str, where: str) -> date:
    """A UTC calendar date from exactly `YYYY-MM-DD`; anything else raises SettingError."""
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError:
        raise SettingError(
            f"{where}={text!r} is not a date. Expected a calendar date as YYYY-MM-DD, such as {where}={today()}; "
            "leave it unset for today in UTC."
        ) from None


def run_date(variable: str, configured: str | None = None) -> date:
    """The date of this run: the setting, else the variable, else today in UTC. Empty is refused, not today."""
    text = os.environ.get(variable) if configured is None else str(configured)
    return today() if text is None else reached(parse_date(text, variable), variable)


def reached(day: date, where: str) -> date:
    """A date to land or to load; raises SettingError for one that is yet to come.

    The views would show it, and no later load could move them, until that day.
    """
    if day > today():
        raise SettingError(f"{where}={day} is yet to come: today in UTC is {today()}. Nothing was landed or loaded. "
                           f"Run again with {where}={today()} or an earlier date.")
    return day


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(timezone.utc)
