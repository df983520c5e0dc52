"""The status as Prometheus metrics, in the text format that node_exporter's textfile collector reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from landing.status.facts import SourceStatus, Status
from landing.zone.run_log import COMMITTED, DROPPED, FAILED, KEPT, OPEN

OUTCOMES = {COMMITTED: "committed", KEPT: "kept", FAILED: "failed", DROPPED: "dropped", OPEN: "unfinished"}
Value = float | int | None

# Each source's gauges: help and value, None to leave it out.
GAUGES: dict[str, tuple[str, Callable[[SourceStatus], Value]]] = {
    "landing_rows": ("Rows of the newest landed date.", lambda one: one.landed and one.landed.rows),
    "landing_bytes": ("Bytes of the newest landed date, uncompressed.", lambda one: one.landed and one.landed.bytes),
    "landing_tables": ("Tables of the newest landed date.", lambda one: one.landed and len(one.landed.tables)),
    "landing_extract_seconds": ("Duration of the extract of the newest landed date.",
                                lambda one: one.landed and one.landed.seconds),
    "landing_age_seconds": ("Age of the newest landed date: time since its snapshot. +Inf: nothing is landed.",
                            lambda one: _age(one.landed_age)),
    "landing_last_success_timestamp_seconds": (
        "When the newest landed date was extracted, in seconds since 1970. 0: nothing is landed.",
        lambda one: _timestamp(one.landed and one.landed.taken_at)),
}
LOADED_GAUGES: dict[str, tuple[str, Callable[[SourceStatus], Value]]] = {
    "landing_loaded_rows": ("Rows of the newest loaded date.", lambda one: one.loaded and one.loaded[1].rows),
    "landing_loaded_age_seconds": ("Age of the newest loaded date: time since its snapshot. +Inf: nothing is loaded.",
                                   lambda one: _age(one.loaded_age)),
    "landing_loaded_timestamp_seconds": (
        "When the newest loaded date was loaded, in seconds since 1970. 0: nothing is loaded.",
        lambda one: _timestamp(one.loaded and one.loaded[1].loaded_at)),
}


def as_metrics(status: Status) -> str:
    """Render the declared sources. One that meltano.yml no longer declares would be late for ever."""
    sources = [source for source in status.sources if source.declared]
    lines = [*_metric("landing_status_timestamp_seconds", "When these metrics were read, in seconds since 1970.",
                      [({}, status.now.timestamp())])]
    if status.schema is not None:
        lines += _metric("landing_warehouse_up", "Whether the warehouse could be read.",
                         [({}, int(status.unreachable is None))])
    read = status.schema is not None and status.unreachable is None
    for name, (about, value) in (GAUGES | (LOADED_GAUGES if read else {})).items():
        lines += _metric(name, about, [({"source": one.name}, value(one)) for one in sources])
    lines += _metric("landing_refused_check", "1 for each check that blocks the load of a shown date.", [
        ({"source": one.name, "date": f"{day.day}", "table": check.table, "check": check.check}, 1)
        for one in sources for day in one.dates for check in day.refused])
    lines += _metric("landing_problems", "Shown dates with a problem: failed, damaged, missing, stale, refused.",
                     [({"source": one.name}, sum(day.problem is not None for day in one.dates)) for one in sources])
    lines += _metric("landing_last_run", "Outcome of the last run of the shown dates: 1 for the one that applies.", [
        ({"source": one.name, "outcome": label}, int(one.last_run[1].outcome == outcome))
        for one in sources if one.last_run for outcome, label in OUTCOMES.items()])
    return "\n".join([*lines, ""])


def _metric(name: str, about: str, values: list[tuple[dict[str, str], Value]]) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} gauge"
    for labels, value in values:
        if value is not None:
            text = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels.items())
            yield f"{name}{f'{{{text}}}' if text else ''} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(value)


def _age(age: timedelta | None) -> float:
    return float("inf") if age is None else round(age.total_seconds(), 3)


def _timestamp(when: datetime | None) -> float:
    return 0 if when is None else round(when.timestamp(), 3)
