"""Formats of dates and times, as for strptime.

DuckDB reads the values, and more than the format says (`24` for %Y, spaces), so that a pattern is checked, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

DIRECTIVES = {
    "Y": "[0-9]{4}", "y": "[0-9]{2}", "m": "[0-9]{1,2}", "b": "[A-Za-z]{3}", "B": "[A-Za-z]+", "d": "[0-9]{1,2}",
    "H": "[0-9]{1,2}", "I": "[0-9]{1,2}", "p": "[AaPp][Mm]", "M": "[0-9]{2}", "S": "[0-9]{2}", "f": "[0-9]{1,6}",
    "z": "[+-][0-9]{2}(:?[0-9]{2})?",
}
TOKEN = re.compile("%-?([a-zA-Z])|%%|[^%]+")
YEAR, MONTH, HOUR = {"Y", "y"}, {"m", "b", "B"}, {"H", "I"}


@dataclass(frozen=True)
class DateFormat:
    """A format whose directives are known, none twice."""

    text: str

    def __post_init__(self) -> None:
        """Raises ValueError if it does not describe a date, a time, or both."""
        found = [match[1] for match in TOKEN.finditer(self.text) if match[1]]
        if "".join(match[0] for match in TOKEN.finditer(self.text)) != self.text or not {*found} <= {*DIRECTIVES}:
            raise ValueError(f"has a directive other than {' '.join(f'%{name}' for name in DIRECTIVES)} %%")
        if len(found) != len({*found}) or any(len(self.has & group) > 1 for group in (YEAR, MONTH, HOUR)):
            raise ValueError("has a part of the date twice")
        if self.day_parts not in (0, 3) or not (self.day_parts or self.has & HOUR):
            raise ValueError("has neither year, month and day nor a time")
        clock = {"H", "I", "M", "S", "f"}
        if (self.has & clock and not self.has & HOUR) or ("I" in self.has) != ("p" in self.has) or (
                ("f" in self.has) > ("S" in self.has) or ("S" in self.has) > ("M" in self.has)):
            raise ValueError("has a part of the time without the parts above it")
        if "z" in self.has and not (self.day_parts and self.has & HOUR):
            raise ValueError("has a time zone without a date and a time")

    @cached_property
    def has(self) -> set[str]:
        """Its directives."""
        return {match[1] for match in TOKEN.finditer(self.text) if match[1]}

    @property
    def day_parts(self) -> int:
        """How many of year, month and day it has."""
        return sum(bool(self.has & group) for group in (YEAR, MONTH, {"d"}))

    @property
    def type(self) -> str:
        """The SQL type of its values."""
        if not self.day_parts:
            return "time without time zone"
        if not self.has & HOUR:
            return "date"
        return f"timestamp {'with' if 'z' in self.has else 'without'} time zone"

    def fits(self, type_: str) -> bool:
        """Whether its values can be of a type."""
        if not self.day_parts:
            return type_ == "time without time zone"
        return type_ in ("date", "timestamp without time zone", "timestamp with time zone") and (
            "z" not in self.has or type_ == "timestamp with time zone")

    @property
    def pattern(self) -> str:
        """A regular expression; a number beside another has all of its digits."""
        tokens = [*TOKEN.finditer(self.text)]
        parts = []
        for number, token in enumerate(tokens):
            beside = any(other[1] for other in tokens[max(number - 1, 0): number + 2] if other is not token)
            pattern = DIRECTIVES[token[1]] if token[1] else re.escape(token[0].replace("%%", "%"))
            parts.append(pattern.replace("{1,2}", "{2}") if beside else pattern)
        return "".join(parts)
