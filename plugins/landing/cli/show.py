"""`landing show`: details of one date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import click
import msgspec

from landing.cli.options import answered, as_json, output, read_load_history, with_schema
from landing.core.dates import parse_date
from landing.core.errors import DamagedError, printable
from landing.core.sources import declared_sources
from landing.core.text import duration, moment, table
from landing.load.load_history import LoadedTable, LoadedTables
from landing.model.manifest import Manifest
from landing.model.summary import Summary
from landing.zone import run_log
from landing.zone.chains import require_whole
from landing.zone.landed_date import LandedDate
from landing.zone.landing_zone import LandingZone
from landing.zone.run_log import Run

NOT_REQUIRED = "The date is complete without it: it was not a source on that day, or it was left out on purpose."


@dataclass(frozen=True)
class Shown:
    """One source's partition. `schema`: the default one of the warehouse; `earlier`: runs that are kept."""

    source: str
    manifest: Manifest | None
    problem: str | None
    entries: Sequence[LoadedTable]
    runs: Sequence[Run]
    schema: str
    earlier: Sequence[Summary | str]  # a run id, if its manifest cannot be read


@click.command(short_help="Details of a date: tables, hashes, snapshot, loads, run log.")
@click.argument("day", metavar="DATE")
@click.option("--run", "run_id", metavar="RUN", help="An earlier run of the date that is kept (`runs: keep`), by its "
              "id. Default: the newest run of each source.")
@as_json
@with_schema
def show(day: str, run_id: str | None, as_json: bool, schema: str) -> None:
    """Show a date's tables with rows, bytes and hashes, its snapshot, its loads, and the run log."""
    with answered(as_json):
        when, zone = parse_date(day, "DATE"), LandingZone.configured()
        entries, left_out = read_load_history(lambda load_history: (load_history.present(when),
                                                                    load_history.left_out(when)), schema) or (None, ())
        landed = LandedDate(zone, when, left_out)
        sources = dict.fromkeys([*landed.sources, *declared_sources(), *landed.landed,
                                 *(name for name, at, _ in run_log.logs(zone.storage) if at == when)])
        if run_id:
            sources = landed.with_run(run_id)
        found = [_source(zone, name, when, run_id, entries or [], schema) for name in sources]
        value = {"date": when, "warehouse": entries is not None,
                 "sources": [as_dict(one) | {"required": one.source in landed.sources} for one in found]}
        output(as_json, value, lambda: "\n\n".join(as_text(landed, one) for one in found))
        if damaged := [one.source for one in found if one.problem]:
            raise DamagedError(f"Damaged: {', '.join(damaged)}. The output above has reasons and commands.")


def _source(zone: LandingZone, source: str, day: date, run_id: str | None, entries: Sequence[LoadedTable],
            schema: str) -> Shown:
    manifest, problem, earlier = None, None, []
    try:
        manifest = zone.manifest(source, day, run_id)
        if manifest:
            earlier = [] if run_id else [zone.readable(source, day, one) or one for one in zone.earlier(manifest)]
            require_whole(zone, manifest)
    except DamagedError as error:
        problem = str(error)
    return Shown(source, manifest, problem, [one for one in entries if one.source == source],
                 run_log.read(zone.storage, source, day), schema, earlier)


def as_text(landed: LandedDate, one: Shown) -> str:
    """Render one source's partition."""
    manifest, schema, entries, runs = one.manifest, one.schema, one.entries, one.runs
    parts = [f"{one.source} of {landed.day}: {_landed(landed, one.source, manifest, one.problem)}"]
    if manifest:
        loads = LoadedTables(entries)
        rows = [(one.name, one.rows, one.bytes, one.sha256[:12],
                 *_loaded(manifest, loads.get(manifest.source, one), schema)) for one in manifest.tables]
        head = ("table", "rows", "bytes", "sha256", "loaded at (UTC)", "from run", "as")
        named_alike = all(one.label(schema) == (one.source_table or one.table) for one in entries)
        parts.append(table(head[:-1], [row[:-1] for row in rows]) if named_alike else table(head, rows))
        parts += [f"{one.name}: {one.quarantine.rows:,} rejected rows, not included above, in {one.quarantine.path}"
                  for one in manifest.tables if one.quarantine]
        parts += [f"{one.name}: {one.rows:,} rows that changed since {one.increment.base}, of {one.total_rows:,}"
                  for one in manifest.tables if one.increment]
        parts += [f"{one.name}: the whole table, because {one.full_because}" for one in manifest.tables
                  if one.full_because]
        parts += [f"{stream}: left out, {why}" for stream, why in manifest.left_out.items()]
    if one.earlier:
        parts.append(table(("earlier run", "extracted at (UTC)", "tables", "rows", "bytes"), [
            (run, "damaged", None, None, None) if isinstance(run, str) else
            (run.run_id, moment(run.taken_at), len(run.tables), run.rows, run.bytes) for run in one.earlier]))
    if runs:
        rows = [(one.started_at, one.ended_at, f"{one.outcome} ({one.error})" if one.error else one.outcome,
                 one.landed or one.run_id) for one in runs]
        parts.append(table(("run started (UTC)", "ended", "outcome", "run"), rows))
        if runs[-1].message:
            parts.append(f"Last error: {printable(runs[-1].message)}")
    return "\n".join(parts)


def _landed(landed: LandedDate, source: str, manifest: Manifest | None, problem: str | None) -> str:
    if problem:
        return f"damaged. {problem}"
    if manifest is None:
        return f"not landed. {landed.how_to_land() if source in landed.sources else NOT_REQUIRED}"
    about = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in manifest.snapshot.items())
    took = f", in {duration(manifest.seconds)}"
    return (f"{len(manifest.tables)} tables, {manifest.rows:,} rows, {manifest.bytes:,} bytes\n"
            f"run {manifest.run_id}, extracted at {moment(manifest.taken_at)} UTC{took}{f'; {about}' if about else ''}")


def _loaded(manifest: Manifest, entry: LoadedTable | None, schema: str) -> tuple[str | None, str | None, str | None]:
    if entry is None:
        return None, None, None
    run = "this run" if entry.run_id == manifest.run_id else entry.run_id
    return moment(entry.loaded_at), run, entry.label(schema)


def as_dict(shown: Shown) -> dict[str, Any]:
    """One source's partition for JSON, with full hashes and load history."""
    manifest = shown.manifest
    loads = {one.label(shown.schema): {"loaded_at": one.loaded_at.isoformat(), "run_id": one.run_id, "rows": one.rows,
                                       "sha256": one.sha256, "seconds": one.seconds} for one in shown.entries}
    found = {"source": shown.source, "landed": manifest is not None, "damaged": shown.problem, "loaded": loads,
             "attempts": [asdict(one) for one in shown.runs], "earlier_runs": [
                 {"run_id": one} if isinstance(one, str) else
                 {"run_id": one.run_id, "taken_at": one.taken_at.isoformat(), "tables": len(one.tables),
                  "rows": one.rows, "bytes": one.bytes} for one in shown.earlier]}
    if manifest:
        found |= {"run_id": manifest.run_id, "taken_at": manifest.taken_at.isoformat(), "seconds": manifest.seconds,
                  "snapshot": manifest.snapshot, "left_out": manifest.left_out, "tables": [
                      {"stream": one.stream, "table": one.name, "rows": one.rows, "bytes": one.bytes,
                       "sha256": one.sha256, "quarantine": msgspec.to_builtins(one.quarantine)}
                      for one in manifest.tables]}
    return found
