"""What of the shown dates is loaded in the warehouse, and each source's newest loaded date."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from landing.load.load_history import LoadedTable, LoadHistory
from landing.load.refusals import Refusal, Refusals
from landing.postgres.configured import connect


@dataclass(frozen=True)
class LoadedDate:
    """A loaded date of a source. `runs`: number of tables by the run that landed them."""

    rows: int
    runs: dict[str, int]
    snapshot_at: datetime
    loaded_at: datetime


Loaded = dict[tuple[str, date], LoadedDate]  # by source and date
LeftOut = Mapping[date, Collection[str]]


def read_loaded(schema: str, days: Collection[date],
                incomplete: Collection[date]) -> tuple[Loaded, LeftOut, list[Refusal]]:
    """Read the load history of a schema.

    Returns:
        The loaded dates: those among `days`, and the newest of each source. The sources that the loads of the
        `incomplete` dates left out. The checks that blocked loads of `days`.
    """
    with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
        history = LoadHistory(cursor, f"{schema}_history")
        if not history.exists():
            return {}, {}, []
        return (_by_date(history.present(*{*days, *history.newest().values()})),
                {day: history.left_out(day) for day in incomplete}, Refusals(cursor, history.loads_schema).of(days))


def _by_date(entries: Iterable[LoadedTable]) -> Loaded:
    found: dict[tuple[str, date], list[LoadedTable]] = {}
    for entry in entries:
        found.setdefault((entry.source, entry.day), []).append(entry)
    return {key: LoadedDate(sum(one.rows for one in tables), dict(Counter(one.run_id for one in tables)),
                            max(one.snapshot_at for one in tables), max(one.loaded_at for one in tables))
            for key, tables in found.items()}
