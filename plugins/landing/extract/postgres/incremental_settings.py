"""The settings of INCREMENTAL tables: how long a chain may be, how far back to read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from singer_sdk import typing as th

from landing.core.errors import SettingError

OPTIONS = {"full_every", "lookback"}
INTERVAL = re.compile(r"[0-9]+ ?(s|m|h|d)")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

FULL_EVERY = th.Property(
    "full_every",
    th.IntegerType(minimum=1),
    default=7,
    description="Of a table with replication-method INCREMENTAL every so many dates are landed as a whole.",
)
INCREMENTAL = th.Property(
    "incremental",
    th.ObjectType(additional_properties=True),  # Meltano splits `public.events` at its dot
    description="For INCREMENTAL tables, by `schema.table`: `{public.orders: {full_every: 30}}` and, for views and "
    "foreign tables, how far before the largest replication key to read again: `{public.sales: {lookback: 15m}}`.",
)


@dataclass(frozen=True)
class TableSettings:
    """Of one table. `lookback`: as PostgreSQL's interval."""

    full_every: int
    lookback: str | None = None


def of_table(config: Mapping[str, Any], name: str) -> TableSettings:
    """The settings of `schema.table`. Raises SettingError if any table's are invalid."""
    found, mine = TableSettings(config["full_every"]), {}
    for table, options in _flat(config.get("incremental") or {}):
        lookback, every = options.get("lookback"), options.get("full_every")
        if lookback is not None and not INTERVAL.fullmatch(str(lookback)):
            raise _refusal(table, f"lookback: {lookback!r} is not a time such as 15m, 2h or 1d")
        if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise _refusal(table, f"full_every: {every!r} is not a number from 1 on")
        mine = options if table == name else mine
    if mine.get("full_every"):
        found = replace(found, full_every=mine["full_every"])
    if mine.get("lookback"):
        text = str(mine["lookback"])
        found = replace(found, lookback=f"{text[:-1].strip()} {UNITS[text[-1]]}")
    return found


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, value in settings.items():
        if not isinstance(value, Mapping):
            raise _refusal(name, f"{value!r} is not a map with {' or '.join(sorted(OPTIONS))}")
        if {*value} <= OPTIONS:
            yield name, value
        else:
            yield from ((f"{name}.{inner}", options) for inner, options in _flat(value))


def _refusal(table: str, what: str) -> SettingError:
    return SettingError(f"incremental: {table}: {what}. Nothing was extracted. Correct `incremental` of tap-postgres "
                        "in meltano.yml (schema.table: {full_every: 30, lookback: 15m}), and run again.")
