"""`landing rename`: give a source another name."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import click

from landing.cli.options import LOAD_WAIT, answered, as_json, logger, output
from landing.core.errors import SettingError
from landing.core.settings import keep_private
from landing.core.sources import checked_source, declared_sources, job_of
from landing.core.text import table
from landing.load.rename import WarehouseRename
from landing.postgres.configured import connect
from landing.zone.landing_zone import LandingZone
from landing.zone.rename import Change, ZoneRename


@click.command(short_help="Rename a source in landing zone and warehouse.")
@click.argument("old")
@click.argument("new")
@click.option("--yes", is_flag=True, help="Rename it. Without --yes, only list what would change.")
@as_json
def rename(old: str, new: str, yes: bool, as_json: bool) -> None:
    """Give source OLD the name NEW: its dates in the landing zone, the manifests that name it, its run logs, and the
    load histories of all schemas of the warehouse. Files keep their bytes, so nothing has to be loaded again.

    Let no extract of OLD run meanwhile. If it is interrupted, run it again: it goes on from there.
    """
    with answered(as_json), contextlib.closing(connect()) as connection:
        keep_private([])
        _check(old, checked_source(new))
        zone, warehouse = LandingZone.configured(), WarehouseRename(connection, old, new, logger)
        with warehouse.locked(LOAD_WAIT):
            found = [*ZoneRename(zone, old, new).changes(), *_loaded(warehouse)]
            if not found:
                _require_known(zone, warehouse, old, new)
            for change in found if yes else ():
                change.apply()
        value = {"changes": [{"kind": one.kind, "what": one.what, "becomes": one.becomes, "rows": one.rows}
                             for one in found], "renamed": yes, "then": _then(old, new)}
        output(as_json, value, lambda: as_text(found, yes, _then(old, new)))


def _check(old: str, new: str) -> None:
    if old == new:
        raise SettingError(f"{old} has that name already. Run again with another one.")


def _loaded(warehouse: WarehouseRename) -> Sequence[Change]:
    """The load histories, renamed in one transaction with the first of them."""
    found = {schema: count for schema, count in warehouse.tables().items() if count}
    return [Change("load history", f"{schema}: {warehouse.old}", f"{schema}: {warehouse.new}", count, warehouse.apply)
            for schema, count in found.items()]


def _require_known(zone: LandingZone, warehouse: WarehouseRename, old: str, new: str) -> None:
    """Raise SettingError for a name that nothing has; after a finished rename, NEW is known."""
    known = {*declared_sources(), *(source for source, _ in zone.landed()), *warehouse.known()}
    if not {old, new} & known:
        raise SettingError(f"Source {old} is unknown. Known sources: {', '.join(sorted(known)) or 'none'}.")


def _then(old: str, new: str) -> list[str]:
    """What a person has to change."""
    steps = []
    if old in declared_sources():
        steps.append(f"rename the job {job_of(old)} to {job_of(new)} in meltano.yml (and what else names {old} there: "
                     "`source`, `table_names`)")
    steps.append(f"where SOURCE={old} or {job_of(old)} is called, such as in a schedule, use {new}")
    return steps


def as_text(found: Sequence[Change], done: bool, then: Sequence[str]) -> str:
    """Render the changes, and what a person has to change."""
    if not found:
        return "Nothing to rename."
    rows = [(one.kind, one.what, one.becomes, one.rows) for one in found]
    end = f"Renamed: {len(found)} changes. Now " if done else (
        f"Would make {len(found)} changes. Run again with --yes to make them, then ")
    return f"{table(('kind', 'what', 'becomes', 'rows'), rows)}\n{end}{'; '.join(then)}."
