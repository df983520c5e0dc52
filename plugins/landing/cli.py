"""The `landing` command: what is landed and loaded, whether it agrees, what changed, what may go.

What it shows is put into words by report.py; `--json` is the same for programs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import click
import psycopg2

from landing import attempts, connections, database, project, report, retention
from landing.certify import REFUSED, Certifier, describe_source
from landing.changes import Comparison
from landing.dropping import Drop
from landing.errors import (
    DamagedError,
    LandingError,
    ProofError,
    SettingError,
    WarehouseError,
    ZoneError,
    describe,
    reported,
)
from landing.ledger import Entry, Ledger
from landing.plan import Loaded, Planner
from landing.proof import Proof
from landing.report import table as table
from landing.retention import Leftover
from landing.warehouse import Warehouse
from landing.zone import LandingZone, Manifest

VARIABLES = {"host": "HOST", "port": "PORT", "dbname": "DB", "user": "USER", "password": "PASSWORD",
             "sslmode": "SSLMODE"}
PATIENCE = 10.0  # seconds that gc waits for a load to end

logger = logging.getLogger("landing")


def connect(role: str = "TARGET") -> Any:
    """The warehouse that TARGET_POSTGRES_… names (or the SOURCE), in the environment or in the project's .env."""
    values = project.settings()
    variables = {key: f"{role}_POSTGRES_{name}" for key, name in VARIABLES.items()}
    if missing := [name for name in variables.values() if name not in values]:
        raise SettingError(f"{', '.join(missing)} not set. Write them into .env (see .env.example), or run make demo.")
    arguments = {key: values[name] for key, name in variables.items()}
    if arguments["sslmode"].startswith("verify-"):
        arguments["sslrootcert"] = database.certificate_authority(arguments["sslmode"], f"{role}_POSTGRES_SSLROOTCERT",
                                                                  values)
    return database.connect(arguments, "landing")


def landing_zone() -> LandingZone:
    """The landing zone that LANDING_ROOT names, in the environment or in the project's .env."""
    return LandingZone(project.landing_root(project.settings().get("LANDING_ROOT")))


class InOrder(click.Group):
    """Its help has the commands in the order of a day, not of the alphabet."""

    def list_commands(self, context: click.Context) -> list[str]:
        """As they are declared."""
        return list(self.commands)


@click.group(cls=InOrder)
def main() -> None:
    """Look at the landing zone and the warehouse: what is there, whether it agrees, what changed, what may go.

    Dates are UTC calendar dates, YYYY-MM-DD. Only `gc --yes` and `drop --yes` change anything.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if exposed := project.exposed_env():
        logger.warning("%s", exposed)


as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
with_schema = click.option("--schema", default=lambda: os.environ.get("SCHEMA", "public"), metavar="NAME",
                           help="The warehouse's schema; unset: SCHEMA, else public.")


def _say(as_json: bool, value: Any, text: Callable[[], str]) -> None:
    click.echo(json.dumps(value, indent=1, default=str, ensure_ascii=False) if as_json else text())


def _asked(question: Callable[[Any], Any], schema: str) -> Any:
    """What the ledger's schema answers; None, said on stderr, where the warehouse can't be asked."""
    try:
        with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
            return question(Ledger(cursor, f"{schema}_history"))
    except (LandingError, psycopg2.Error) as error:
        why = describe(error) if isinstance(error, psycopg2.Error) else error
        click.echo(f"The warehouse could not be asked what is loaded: {why}", err=True)
        return None


@main.command(short_help="What a first run would keep exactly, keep as text, or refuse.")
@click.argument("tables", metavar="[SCHEMA.TABLE]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="What is lossless too.")
@as_json
@with_schema
def certify(tables: Sequence[str], everything: bool, as_json: bool, schema: str) -> None:
    """What an extract and a load would make of each column of the PostgreSQL source, without reading a row.

    \b
    lossless   lands and loads with its exact type
    as text    kept as PostgreSQL's own text of it
    refused    the extract, or the load, would stop here

    Without names: all tables of `filter_schemas`. In a name * stands for anything. Nothing is changed on either server.
    """
    with reported(logger), contextlib.closing(connect("SOURCE")) as source:
        found = describe_source(source, project.source_schemas(), tables)
        with _warehouse(schema) as warehouse:
            verdicts = list(Certifier(source, project.source_name(default="postgres"), warehouse).verdicts(found))
            version = warehouse and warehouse.version
        shown = {"warehouse": version, "columns": [asdict(one) for one in verdicts]}
        _say(as_json, shown, lambda: report.certified(verdicts, everything, version))
        if refused := [f"{one.schema}.{one.table}" for one in verdicts if one.verdict == REFUSED]:
            raise LandingError(f"Refused: {', '.join(refused)}. See above why, and what mends it; then certify again.")


@contextlib.contextmanager
def _warehouse(schema: str) -> Iterator[Warehouse | None]:
    """The warehouse, which keeps its warnings to itself; None, said on stderr, where it can't be reached."""
    try:
        connection = connect()
    except LandingError as error:
        click.echo(f"The warehouse could not be asked what it takes: {error}", err=True)
        yield None
        return
    with contextlib.closing(connection):
        yield Warehouse(connection, schema, logging.Logger("certify", logging.ERROR))


@main.command("list", short_help="Every source and date, and whether it is loaded.")
@as_json
@with_schema
def list_(as_json: bool, schema: str) -> None:
    """Every source and date: tables, rows, bytes, when taken, whether loaded."""
    with reported(logger):
        zone = landing_zone()
        runs = _asked(_runs, schema)
        lines = [_line(zone, source, day, runs) for source, day in zone.folders()]
        nothing = (f"Nothing is landed in {zone.root}. Begin with: "
                   f"{project.extract_command('postgres', project.today())}")
        _say(as_json, lines, lambda: report.listed(lines) if lines else nothing)
        if damaged := [f"{line['source']} of {line['extracted_at']}" for line in lines if line["damaged"]]:
            raise DamagedError(f"Damaged: {', '.join(damaged)}. See above what is wrong and what mends it.")


def _runs(ledger: Ledger) -> dict[tuple[str, date], dict[str, str]]:
    """Run ids of the tables that are loaded, by source and date."""
    found: dict[tuple[str, date], dict[str, str]] = {}
    for one in ledger.present():
        found.setdefault((one.source, one.day), {})[one.table] = one.run_id
    return found


def _line(zone: LandingZone, source: str, day: str,
          loaded: dict[tuple[str, date], dict[str, str]] | None) -> dict[str, Any]:
    line = dict.fromkeys(report.LISTED) | {"source": source, "extracted_at": day, "damaged": None}
    try:
        manifest = zone.require(source, project.parse_date(day, "extracted_at"))
    except (SettingError, ZoneError) as error:
        return line | {"damaged": str(error)}
    state = _state(manifest, None if loaded is None else loaded.get((source, manifest.extracted_at), {}))
    return line | {"tables": len(manifest.tables), "rows": manifest.rows, "bytes": manifest.bytes,
                   "taken_at": report.moment(manifest.taken_at), "run_id": manifest.run_id, "loaded": state}


def _state(manifest: Manifest, runs: dict[str, str] | None) -> str:
    """Whether a landed date is loaded; `runs` by table, None where that is not known."""
    if runs is None:
        return "unknown"
    if {*runs.values()} - {manifest.run_id}:
        return "an older run"
    here = [table.name in runs for table in manifest.tables]
    return "yes" if all(here) else "partly" if any(here) else "no"


@main.command(short_help="A date: tables, hashes, snapshot, loads, attempts.")
@click.argument("day", metavar="DATE")
@as_json
@with_schema
def show(day: str, as_json: bool, schema: str) -> None:
    """A date: its tables with rows, bytes and hashes, their snapshot, when loaded, and all attempts at landing it."""
    with reported(logger):
        when, zone = project.parse_date(day, "DATE"), landing_zone()
        entries = _asked(lambda ledger: ledger.present(when), schema)
        sources = dict.fromkeys([*project.declared_sources(), *(name for name, at in zone.landed() if at == when),
                                 *(name for name, at, _ in attempts.logs(zone.root) if at == when)])
        found = [_source(zone, name, when, entries or []) for name in sources]
        whole = {"date": when, "warehouse": entries is not None, "sources": [report.described(*one) for one in found]}
        _say(as_json, whole, lambda: "\n\n".join(report.shown(when, *one) for one in found))
        if damaged := [one[0] for one in found if one[2]]:
            raise DamagedError(f"Damaged: {', '.join(damaged)}. See above what is wrong and what mends it.")


Shown = tuple[str, Manifest | None, str | None, list[Entry], list[attempts.Attempt]]


def _source(zone: LandingZone, source: str, day: date, entries: Sequence[Entry]) -> Shown:
    manifest, problem = None, None
    try:
        manifest = zone.manifest(source, day)
    except DamagedError as error:
        problem = str(error)
    return (source, manifest, problem, [one for one in entries if one.source == source],
            attempts.read(zone.root, source, day))


@main.command(short_help="What a backfill would do, and how long it takes.")
@click.option("--from", "first", required=True, metavar="DATE", help="The first date.")
@click.option("--to", "last", required=True, metavar="DATE", help="The last date, today at the latest.")
@click.option("--re-extract", is_flag=True, help="As if REEXTRACT=true: past dates that are landed are taken anew.")
@as_json
@with_schema
def plan(first: str, last: str, re_extract: bool, as_json: bool, schema: str) -> None:
    """Each date from one to another: its state, what a backfill would do with it, and how long that should take.

    \b
    missing    not every declared source is landed
    landed     all landed, not loaded
    identical  the warehouse has, by SHA-256, what is landed
    stale      loaded, but otherwise than landed
    loaded     in the warehouse, no longer landed
    damaged    a manifest, or a file that it lists, can't be used

    What a load of landed tables would refuse (types, names), and where it would turn a column to text, is said.
    Times are medians of what the manifests and the ledger say; what they don't know is unknown.
    """
    with reported(logger):
        days = project.parse_date(first, "--from"), project.parse_date(last, "--to")
        loaded = _asked(_loaded, schema)
        planner = Planner(landing_zone(), project.declared_sources(), loaded, re_extract)
        try:
            with contextlib.nullcontext() if loaded is None else _warehouse(schema) as planner.warehouse:
                plans = planner.plan(*days)
        except psycopg2.Error as error:  # a role that may only read
            click.echo(f"The warehouse could not be asked what it would refuse: {describe(error)}", err=True)
            planner.warehouse = None
            plans = planner.plan(*days)
        _say(as_json, {"dates": [asdict(one) for one in plans], "total": report.total(plans)},
             lambda: report.planned(plans))


def _loaded(ledger: Ledger) -> Loaded:
    """What is in the warehouse, by what the ledger says and what is there."""
    found: dict[date, dict[tuple[str, str], Entry]] = {}
    for one in ledger.present():
        found.setdefault(one.day, {})[one.source, one.table] = one
    return found


@main.command(short_help="Prove a date: source = files = warehouse.")
@click.argument("day", metavar="DATE")
@as_json
@with_schema
def verify(day: str, as_json: bool, schema: str) -> None:
    """Prove a date: source = files = warehouse, by SHA-256. Exits non-zero if any table differs."""
    with reported(logger):
        when = project.parse_date(day, "DATE")
        zone = landing_zone()
        manifests = [zone.require(source, when) for source in project.declared_sources()]
        with contextlib.closing(connect()) as connection:
            proof = Proof(zone, connection, schema)
            proofs = [one for manifest in manifests for one in proof.tables(manifest)]
        _say(as_json, [asdict(one) | {"equal": one.holds} for one in proofs], lambda: report.proved(proofs))
        wrong = [one for one in proofs if not one.holds]
        if wrong:
            raise ProofError(report.mending(wrong, when, schema))


@main.command(short_help="What changed from one date to another.")
@click.argument("before", metavar="DATE1")
@click.argument("after", metavar="DATE2")
@click.option("--rows", default=0, type=click.IntRange(min=0), metavar="N", help="Show up to N changed rows a table.")
@as_json
@with_schema
def diff(before: str, after: str, rows: int, as_json: bool, schema: str) -> None:
    """What changed from one loaded date to another: rows inserted, updated and deleted in each table.

    Rows are matched by their key. Without one, a row that changed is one deleted and one inserted.
    """
    with reported(logger):
        days = project.parse_date(before, "DATE1"), project.parse_date(after, "DATE2")
        with contextlib.closing(connect()) as connection:
            changes = list(Comparison(connection, schema, *days).tables(rows))
        _say(as_json, [asdict(one) | {"unchanged": one.unchanged} for one in changes],
             lambda: report.compared(*days, changes))


@main.command(short_help="What may go: leftovers and, if you like, old dates.")
@click.option("--keep-days", type=click.IntRange(0, 36500), metavar="N",
              help="Dates before the last N days go too, landed and loaded; the newest of each stays in any case.")
@click.option("--older-than", type=click.FloatRange(min=0), default=retention.OLDER_THAN, show_default=True,
              metavar="HOURS", help="A run that changed nothing for so long is taken for dead.")
@click.option("--yes", is_flag=True, help="Remove it. Without, it is only said what would go.")
@as_json
@with_schema
def gc(keep_days: int | None, older_than: float, yes: bool, as_json: bool, schema: str) -> None:
    """Say what may go, and remove it with --yes: what dead runs left behind and, with --keep-days, old dates."""
    with reported(logger):
        first, problems = retention.first_kept(keep_days), []
        found = list(_swept(retention.ZoneLeftovers(landing_zone(), first, older_than), yes))
        try:
            with _held(schema) as warehouse:
                found += _swept(retention.WarehouseLeftovers(warehouse, first), yes) if warehouse else []
        except (LandingError, psycopg2.Error) as error:
            why = describe(error) if isinstance(error, psycopg2.Error) else error
            problems = [f"What is left over in the warehouse stays: {why}"]
        _say(as_json, _things(found, yes), lambda: report.swept(found, yes))
        problems += [f"{one.what} stays: {problem}" for one, problem in found if problem]
        if problems:
            raise LandingError("\n".join(problems))


def _things(found: Sequence[tuple[Leftover, str]], yes: bool) -> list[dict[str, Any]]:
    return [{"kind": one.kind, "what": one.what, "bytes": one.bytes, "rows": one.rows, "why": one.why,
             "removed": yes and not problem, "problem": problem or None} for one, problem in found]


@main.command(short_help="Take one date out of landing zone and warehouse.")
@click.argument("day", metavar="DATE")
@click.option("--source", metavar="NAME", help="Only this source's date; unset: every source's.")
@click.option("--yes", is_flag=True, help="Drop it. Without, it is only said what would go.")
@as_json
@with_schema
def drop(day: str, source: str | None, yes: bool, as_json: bool, schema: str) -> None:
    """Take a date out of the warehouse and then out of the landing zone, whichever date it is.

    Views that show it go back to the newest date of their source that is left. A source without any keeps its views,
    empty, with a comment.
    """
    with reported(logger):
        when, found = project.parse_date(day, "DATE"), []
        with _held(schema) as warehouse:
            things = list(Drop(landing_zone(), warehouse, when, source))
            for result in retention.removed(things) if yes else ((one, "") for one in things):
                found.append(result)
                if result[1]:  # the landing zone keeps what the warehouse has
                    break
        found += [(one, "not tried") for one in things[len(found):]]
        nothing = f"Nothing of {when} is landed or loaded{f' of source {source}' if source else ''}."
        _say(as_json, _things(found, yes), lambda: report.swept(found, yes) if found else nothing)
        if problems := [f"{one.what} stays: {problem}" for one, problem in found if problem]:
            raise LandingError("\n".join(problems))


def _swept(leftovers: retention.ZoneLeftovers | retention.WarehouseLeftovers,
           yes: bool) -> Iterator[tuple[Leftover, str]]:
    found = list(leftovers)
    return retention.removed(found) if yes else ((one, "") for one in found)


@contextlib.contextmanager
def _held(schema: str) -> Iterator[Warehouse | None]:
    """The warehouse, held against loads; None if nothing was ever loaded."""
    with contextlib.closing(connect()) as connection:
        warehouse = Warehouse(connection, schema, logger)
        if not warehouse.ledger.exists():
            yield None
            return
        if not warehouse.hold(PATIENCE):
            raise WarehouseError(f"a load has been at work in schema {schema} for {PATIENCE:g} s and more "
                                 f"({warehouse.holder()}). Run again "
                                 "when it has ended")
        yield warehouse


main.add_command(connections.command)
