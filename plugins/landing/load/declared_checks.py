"""Checks of whole tables, as declared: the setting `checks` of target-postgres, by source and table.

    checks:
      postgres:
        orders:                                  # or public.orders
          min_rows: 1
          max_change: 50%                        # of rows, against the newest loaded date before
          foreign_keys: true                     # those of the manifest hold
          columns: {status: {required: true, enum: [new, sent]}}
          checks: {in_order: "shipped_date >= order_date"}
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NoReturn

from landing.core.errors import SettingError
from landing.load.staging import Load

SETTING = "checks"
MIN_ROWS, MAX_CHANGE, FOREIGN_KEYS, COLUMNS = "min_rows", "max_change", "foreign_keys", "columns"
OF_A_TABLE = {MIN_ROWS, MAX_CHANGE, FOREIGN_KEYS, COLUMNS, SETTING}
REQUIRED, UNIQUE, ENUM, MINIMUM, MAXIMUM, PATTERN = RULES = (
    "required", "unique", "enum", "minimum", "maximum", "pattern")
PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%")


@dataclass(frozen=True)
class TableChecks:
    """The checks of one table. `rules`: by column and rule; `conditions`: SQL by name. `max_change`: percent."""

    where: str
    min_rows: int | None = None
    max_change: Decimal | None = None
    foreign_keys: bool = False
    rules: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parsed(cls, where: str, given: Mapping[str, Any]) -> TableChecks:
        """Raises SettingError if a check has a value that it cannot have."""
        rows, change, keys = given.get(MIN_ROWS), given.get(MAX_CHANGE), given.get(FOREIGN_KEYS, False)
        if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 0):
            refuse(where, f"{MIN_ROWS}={rows!r} is not a number of rows")
        if change is not None and not (percent := PERCENT.fullmatch(str(change))):
            refuse(where, f"{MAX_CHANGE}={change!r} is not a percentage, such as 50%")
        if not isinstance(keys, bool):
            refuse(where, f"{FOREIGN_KEYS}={keys!r} is not true or false")
        conditions = dict(_flat(given.get(SETTING) or {}, lambda value: not isinstance(value, Mapping)))
        if wrong := [name for name, text in conditions.items() if not isinstance(text, str)]:
            refuse(where, f"the check {wrong[0]} is not a text of SQL")
        return cls(where, rows, Decimal(percent[1]) if change is not None else None, keys,
                   dict(_rules(where, given.get(COLUMNS) or {})), conditions)


def _rules(where: str, columns: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    """Rules by column and name; a flag that is off is left out."""
    for column, options in _flat(columns, lambda value: not isinstance(value, Mapping) or value.keys() <= {*RULES}):
        if not isinstance(options, Mapping):
            refuse(where, f"the column {column} has {options!r}, and not rules of {', '.join(RULES)}")
        for rule, value in options.items():
            listed = isinstance(value, (list, tuple))
            if rule in (REQUIRED, UNIQUE) and not isinstance(value, bool):
                refuse(where, f"{rule} of column {column} is not true or false")
            if rule == ENUM and not (listed and value):
                refuse(where, f"{rule} of column {column} is not a list of values")
            if rule in (MINIMUM, MAXIMUM, PATTERN) and (isinstance(value, (bool, Mapping)) or listed):
                refuse(where, f"{rule} of column {column} is not a single value")
            if value is not False:
                yield (column, rule), value


class DeclaredChecks:
    """The setting."""

    def __init__(self, setting: Mapping[str, Any] | None) -> None:
        """Raises SettingError if it is not valid."""
        if not isinstance(setting or {}, Mapping):
            raise SettingError(f"{SETTING} of target-postgres is {setting!r}. Expected checks by source and table. "
                               "Correct it, and run again.")
        self._tables: dict[str, TableChecks] = {}
        for name, given in _flat(setting or {}, lambda value: not isinstance(value, Mapping) or (
                value.keys() <= OF_A_TABLE)):
            if not isinstance(given, Mapping):
                refuse(name, f"{given!r} is not a check. Expected {', '.join(sorted(OF_A_TABLE))}")
            self._tables[name] = TableChecks.parsed(name, given)

    def of(self, load: Load) -> TableChecks | None:
        """The checks of a table, by its names in the source."""
        return next((self._tables[name] for name in _names(load) if name in self._tables), None)

    def refuse_unknown(self, sources: Collection[str], known: Collection[Load], stored: Collection[str]) -> None:
        """Raise SettingError for a table of these sources that is neither landed nor loaded, such as a misspelt one.

        `stored`: names of loaded tables, each as source.table.
        """
        names = {*stored, *(name for load in known for name in _names(load))}
        for name in self._tables:
            of_these = any(name.startswith(f"{source}.") for source in sources)
            if of_these and name not in names:
                tables = sorted({_names(load)[0] for load in known})
                refuse(name, f"there is no such table. These are landed: {', '.join(tables)}")

    def refuse_unknown_sources(self, known: Collection[str]) -> None:
        """Raise SettingError for a source that is neither declared nor loaded."""
        for name in self._tables:
            if not any(name.startswith(f"{source}.") for source in known):
                refuse(name, f"there is no such source. Known sources: {', '.join(sorted(known))}")

    def __bool__(self) -> bool:
        return bool(self._tables)


def _names(load: Load) -> list[str]:
    """The names by which the setting may have a table."""
    return source_names(load.source, load.table.schema, load.source_table or load.table.name)


def source_names(source: str, schema: str | None, table: str) -> list[str]:
    """The names of a source's table: without its schema, and with it."""
    return [f"{source}.{table}"] + ([] if schema is None else [f"{source}.{schema}.{table}"])


def _flat(given: Mapping[str, Any], is_value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by name. Meltano nests a name with dots."""
    for name, value in given.items():
        if is_value(value):
            yield f"{prefix}{name}", value
        else:
            yield from _flat(value, is_value, f"{prefix}{name}.")


def refuse(where: str, why: str) -> NoReturn:
    """Raise SettingError for a part of the setting."""
    raise SettingError(f"{SETTING} of target-postgres, {where}: {why}. Nothing was loaded. Correct it in meltano.yml, "
                       "and run again.")
