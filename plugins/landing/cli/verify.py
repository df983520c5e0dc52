"""`landing verify`: compare source, files and warehouse by SHA-256."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import click

from landing.cli.options import answered, as_json, logger, output, with_schema
from landing.core.commands import extract_command, load_command
from landing.core.dates import parse_date, today
from landing.core.errors import NotLandedError, SettingError, VerificationError
from landing.core.sources import load_connections
from landing.core.text import table
from landing.postgres.configured import connect
from landing.verify.dates import DateVerification, days_between, verify_dates
from landing.verify.reconcile import EQUAL, Reconciliation, Verification
from landing.verify.workers import Workers
from landing.zone.landed_date import LandedDate
from landing.zone.landing_zone import LandingZone


@click.command(short_help="Verify by checksum that source, files and warehouse match.")
@click.argument("days", nargs=-1, metavar="[DATE]...")
@click.option("--from", "first", metavar="DATE", help="Verify all landed or loaded dates from this one.")
@click.option("--to", "last", metavar="DATE", help="The last of them. Default: the newest.")
@click.option("--run", "run_id", metavar="RUN", help="Verify the files of an earlier run that is kept (`runs: keep`), "
              "without the warehouse.")
@as_json
@with_schema
def verify(days: tuple[str, ...], first: str | None, last: str | None, run_id: str | None, as_json: bool,
           schema: str) -> None:
    """Verify dates: source = files = warehouse, by SHA-256. Exits non-zero if any table differs.

    Several dates are verified in one pass, with one table of results. A date that is not landed, or is damaged, does
    not stop the others.
    """
    with answered(as_json):
        wanted = _dates(days, first, last, run_id)
        zone = LandingZone.configured()
        if run_id:
            _verify_run(zone, wanted[0], run_id, as_json)
            return
        several = first is not None or len(days) > 1
        with contextlib.closing(connect()) as connection, Workers(load_connections(), connection) as workers:
            reconciliation = Reconciliation(zone, connection, schema, workers if workers.count > 1 else None)
            found = verify_dates(zone, reconciliation, wanted if first is None else
                                 _range(zone, reconciliation, *wanted))
        if not several and found[0].error:
            raise found[0].error
        for one in found:
            if one.without:
                logger.warning("Without %s, which the load of %s left out.", ", ".join(one.without), one.day)
        output(as_json, _by_date(found) if several else _tables(found[0].tables), lambda: as_text(found, dated=several))
        if wrong := [one for one in found if not one.holds]:
            raise VerificationError("\n".join(_problem(one, schema) for one in wrong))


def _dates(days: Sequence[str], first: str | None, last: str | None, run_id: str | None) -> list[date]:
    """The dates of the command line; of a range the first and the last. Raises SettingError."""
    if first is None:
        if not days or last is not None:
            raise SettingError("No date is given. Run `landing verify DATE`, with one date or several, or with --from "
                               "DATE and --to DATE.")
        if run_id and len(days) > 1:
            raise SettingError("--run names a run of one date. Give that date only, and run again.")
        return list(dict.fromkeys(parse_date(day, "DATE") for day in days))
    if days or run_id:
        raise SettingError("--from and --to name the dates. Leave out DATE and --run, and run again.")
    begin, end = parse_date(first, "--from"), date.max if last is None else parse_date(last, "--to")
    if begin > end:
        raise SettingError(f"--from={begin} is after --to={end}. Correct it, and run again.")
    return [begin, end]


def _range(zone: LandingZone, reconciliation: Reconciliation, first: date, last: date) -> list[date]:
    """Landed or loaded dates from one to another. Raises NotLandedError if there is none."""
    if not (found := days_between(zone, reconciliation, first, last)):
        until = "on" if last == date.max else f"to {last}"
        raise NotLandedError(f"No date is landed from {first} {until}. `landing list` shows what is landed.")
    return found


def _tables(found: Sequence[Verification]) -> list[dict[str, Any]]:
    return [asdict(one) | {"equal": one.holds} for one in found]


def _by_date(found: Sequence[DateVerification]) -> list[dict[str, Any]]:
    return [{"date": str(one.day), "equal": one.holds, "problem": str(one.error) if one.error else None,
             "tables": _tables(one.tables)} for one in found]


def _problem(one: DateVerification, schema: str) -> str:
    """What is wrong with a date, and what to do about it."""
    problems = [f"{one.day} was not verified: {one.error}"] if one.error else []
    return "\n".join([*problems, *([repair(one.wrong, one.day, schema)] if one.wrong else [])])


def _verify_run(zone: LandingZone, day: date, run_id: str, as_json: bool) -> None:
    manifests = [zone.manifest(source, day, run_id) for source in LandedDate(zone, day).with_run(run_id)]
    found = [one for manifest in manifests if manifest for one in Reconciliation(zone, None, "").files(manifest)]
    output(as_json, _tables(found), lambda: as_text([DateVerification(day, found)]))
    if wrong := [f"{one.source}.{one.table} ({one.problem})" for one in found if not one.holds]:
        raise VerificationError(f"Run {run_id} of {day} failed verification: {', '.join(wrong)}. Restore its files "
                                "from a backup: they cannot be extracted again.")


def as_text(dates: Sequence[DateVerification], *, dated: bool = False) -> str:
    """Render the tables with their three hashes; `dated`: with their dates."""
    head = ("source", "table", "rows", "bytes", "sha256: source", "files", "warehouse", "equal")
    rows = [
        (str(day.day), one.source, one.table, one.rows, one.bytes, *((value or "-")[:12] for value in
                                                                (one.landed, one.files, one.warehouse)),
         EQUAL[one.compared] if one.holds else f"NO: {one.problem}")
        for day in dates for one in day.tables
    ]
    found = [one for day in dates for one in day.tables]
    lines = [table(("date", *head), rows) if dated else table(head, [row[1:] for row in rows]), _summary(dates, dated)]
    if protected := {f"{one.table}.{name} ({method})": None for one in found for name, method in one.protected.items()}:
        lines.append(f"Protected, so compared as landed and not with the values at the source: {', '.join(protected)}.")
    return "\n".join(lines)


def _summary(dates: Sequence[DateVerification], dated: bool) -> str:
    found = [one for day in dates for one in day.tables]
    text = f"{sum(one.holds for one in found)} of {len(found)} tables equal, {sum(one.rows for one in found):,} rows."
    return f"{text} {sum(day.holds for day in dates)} of {len(dates)} dates equal." if dated else text


def repair(wrong: Sequence[Verification], day: date, schema: str) -> str:
    """The differences, and the commands that repair them; what was not read, and what to do about it."""
    differ, unread = [one for one in wrong if not one.unread], [one for one in wrong if one.unread]
    texts = [_repair(differ, day, schema)] if differ else []
    if unread:
        texts.append(f"{day} was not verified: {_names(unread)}. If a right is missing: "
                     "load/roles/warehouse_loader.sql grants what the role needs. Then run again: "
                     f"landing verify {day}")
    return "\n".join(texts)


def _repair(differ: Sequence[Verification], day: date, schema: str) -> str:
    """Extract damaged files again, then reload."""
    commands = [
        f"REEXTRACT=true {extract_command(source, day)}"
        for source in sorted({one.source for one in differ if one.files != one.landed})
    ]
    late = ("An extract now takes today's rows: where there is a backup, restore the files instead. "
            if commands and day < today() else "")
    commands.append(f"RELOAD=true {load_command(day, schema)}")
    return f"{day} failed verification: {_names(differ)}. {late}To repair it, run: {' && '.join(commands)}"


def _names(tables: Sequence[Verification]) -> str:
    return ", ".join(f"{one.source}.{one.table} ({one.problem})" for one in tables)
