"""`landing list`: all landed partitions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import click

from landing.cli.options import answered, as_json, output, read_load_history, with_schema
from landing.core.commands import extract_command
from landing.core.dates import parse_date, today
from landing.core.errors import DamagedError, SettingError, ZoneError
from landing.core.sources import declared_sources
from landing.core.text import moment, table
from landing.load.load_history import LoadedTable, LoadedTables, LoadHistory
from landing.model.manifest import Manifest
from landing.zone.chains import require_whole
from landing.zone.landed_date import LandedDate
from landing.zone.landing_zone import LandingZone

LISTED = {"source": "source", "extracted_at": "extracted_at", "tables": "tables", "rows": "rows", "bytes": "bytes",
          "taken_at": "extracted at (UTC)", "run_id": "run", "runs": "runs", "loaded": "loaded"}  # headings


@click.command("list", short_help="List all sources and dates, and whether they are loaded.")
@as_json
@with_schema
def list_(as_json: bool, schema: str) -> None:
    """List every source and date: tables, rows, bytes, time of the extract, whether loaded."""
    with answered(as_json):
        zone = LandingZone.configured()
        loaded = read_load_history(_loaded, schema)
        lines = [_line(zone, source, day, loaded) for source, day in zone.folders()]
        nothing = f"Nothing is landed in {zone.storage.describe()}. {_first_command()}"
        output(as_json, lines, lambda: as_text(lines, _missing(zone, lines)) if lines else nothing)
        if damaged := [f"{line['source']} of {line['extracted_at']}" for line in lines if line["damaged"]]:
            raise DamagedError(f"Damaged: {', '.join(damaged)}. The table above has reasons and commands.")


def _first_command() -> str:
    """How to begin: with the first declared source."""
    sources = declared_sources()
    return (f"Start with: {extract_command(sources[0], today())}" if sources else
            "Declare a source first: a job extract_<source> in meltano.yml.")


def _missing(zone: LandingZone, lines: Sequence[dict[str, Any]]) -> list[str]:
    """Dates with the sources that they lack."""
    days = sorted({line["extracted_at"] for line in lines if line["tables"] is not None})
    dates = [LandedDate(zone, parse_date(day, "extracted_at")) for day in days]
    return [f"{one.day} ({', '.join(one.missing)})" for one in dates if one.lacks_declared() and one.missing]


def _loaded(load_history: LoadHistory) -> dict[tuple[str, date], LoadedTables]:
    """Loaded tables by source and date."""
    found: dict[tuple[str, date], list[LoadedTable]] = {}
    for one in load_history.present():
        found.setdefault((one.source, one.day), []).append(one)
    return {partition: LoadedTables(entries) for partition, entries in found.items()}


def _line(zone: LandingZone, source: str, day: str,
          loaded: dict[tuple[str, date], LoadedTables] | None) -> dict[str, Any]:
    line = dict.fromkeys(LISTED) | {"source": source, "extracted_at": day, "damaged": None}
    try:
        manifest = zone.require(source, parse_date(day, "extracted_at"))
        require_whole(zone, manifest)
    except (SettingError, ZoneError) as error:
        return line | {"damaged": str(error)}
    state = _state(manifest, None if loaded is None else loaded.get((source, manifest.extracted_at), LoadedTables(())))
    return line | {"tables": len(manifest.tables), "rows": manifest.rows, "bytes": manifest.bytes,
                   "taken_at": moment(manifest.taken_at), "run_id": manifest.run_id,
                   "runs": 1 + len(zone.earlier(manifest)), "loaded": state}


def _state(manifest: Manifest, loaded: LoadedTables | None) -> str:
    """Whether a landed partition is loaded. `loaded`: its tables, None if unknown."""
    if loaded is None:
        return "unknown"
    if {one.run_id for one in loaded.entries} - {manifest.run_id}:
        return "an older run"
    here = [loaded.get(manifest.source, table) is not None for table in manifest.tables]
    return "yes" if all(here) else "partly" if any(here) else "no"


def as_text(lines: Sequence[dict[str, Any]], missing: Sequence[str]) -> str:
    """Render the landed partitions, and the dates that are not complete."""
    several = any((line["runs"] or 1) > 1 for line in lines)
    shown = [name for name in LISTED if name != "runs" or several]
    rows = [[line[name] for name in shown] for line in lines]
    for row, line in zip(rows, lines, strict=True):
        row[-1] = f"damaged: {line['damaged']}" if line["damaged"] else line["loaded"]
    text = table([LISTED[name] for name in shown], rows)
    return f"{text}\nNot landed: {', '.join(missing)}. `landing show DATE` says what to do." if missing else text
