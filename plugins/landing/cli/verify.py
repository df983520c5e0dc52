"""`landing verify`: compare source, files and warehouse by SHA-256."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

import click

from landing.cli.options import answered, as_json, logger, output, with_schema
from landing.core.commands import extract_command, load_command
from landing.core.dates import parse_date, today
from landing.core.errors import VerificationError
from landing.core.sources import load_connections
from landing.core.text import table
from landing.postgres.configured import connect
from landing.verify.reconcile import EQUAL, Reconciliation, Verification
from landing.verify.workers import Workers
from landing.zone.landed_date import LandedDate
from landing.zone.landing_zone import LandingZone


@click.command(short_help="Verify by checksum that source, files and warehouse match.")
@click.argument("day", metavar="DATE")
@click.option("--run", "run_id", metavar="RUN", help="Verify the files of an earlier run that is kept (`runs: keep`), "
              "without the warehouse.")
@as_json
@with_schema
def verify(day: str, run_id: str | None, as_json: bool, schema: str) -> None:
    """Verify a date: source = files = warehouse, by SHA-256. Exits non-zero if any table differs."""
    with answered(as_json):
        when = parse_date(day, "DATE")
        zone = LandingZone.configured()
        if run_id:
            _verify_run(zone, when, run_id, as_json)
            return
        with contextlib.closing(connect()) as connection, Workers(load_connections(), connection) as workers:
            reconciliation = Reconciliation(zone, connection, schema, workers if workers.count > 1 else None)
            landed = LandedDate(zone, when, reconciliation.left_out(when))
            found = [one for manifest in landed.manifests() for one in reconciliation.tables(manifest)]
        if without := sorted({*landed.left_out, *landed.without} - {*landed.sources}):
            logger.warning("Without %s, which the load of %s left out.", ", ".join(without), when)
        output(as_json, [asdict(one) | {"equal": one.holds} for one in found], lambda: as_text(found))
        wrong = [one for one in found if not one.holds]
        if wrong:
            raise VerificationError(repair(wrong, when, schema))


def _verify_run(zone: LandingZone, day: date, run_id: str, as_json: bool) -> None:
    manifests = [zone.manifest(source, day, run_id) for source in LandedDate(zone, day).with_run(run_id)]
    found = [one for manifest in manifests if manifest for one in Reconciliation(zone, None, "").files(manifest)]
    output(as_json, [asdict(one) | {"equal": one.holds} for one in found], lambda: as_text(found))
    if wrong := [f"{one.source}.{one.table} ({one.problem})" for one in found if not one.holds]:
        raise VerificationError(f"Run {run_id} of {day} failed verification: {', '.join(wrong)}. Restore its files "
                                "from a backup: they cannot be extracted again.")


def as_text(found: Sequence[Verification]) -> str:
    """Render the tables with their three hashes."""
    head = ("source", "table", "rows", "bytes", "sha256: source", "files", "warehouse", "equal")
    rows = [
        (one.source, one.table, one.rows, one.bytes, *((value or "-")[:12] for value in
                                                       (one.landed, one.files, one.warehouse)),
         EQUAL[one.compared] if one.holds else f"NO: {one.problem}")
        for one in found
    ]
    equal = sum(one.holds for one in found)
    lines = [table(head, rows), f"{equal} of {len(found)} tables equal, {sum(one.rows for one in found):,} rows."]
    if protected := [f"{one.table}.{name} ({method})" for one in found for name, method in one.protected.items()]:
        lines.append(f"Protected, so compared as landed and not with the values at the source: {', '.join(protected)}.")
    return "\n".join(lines)


def repair(wrong: Sequence[Verification], day: date, schema: str) -> str:
    """The differences, and the commands that repair them: extract damaged files again, then reload."""
    names = ", ".join(f"{one.source}.{one.table} ({one.problem})" for one in wrong)
    commands = [
        f"REEXTRACT=true {extract_command(source, day)}"
        for source in sorted({one.source for one in wrong if one.files != one.landed})
    ]
    late = ("An extract now takes today's rows: where there is a backup, restore the files instead. "
            if commands and day < today() else "")
    commands.append(f"RELOAD=true {load_command(day, schema)}")
    return f"{day} failed verification: {names}. {late}To repair it, run: {' && '.join(commands)}"
