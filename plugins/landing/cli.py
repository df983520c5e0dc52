"""The `landing` command: what is landed and loaded, and whether source, files and warehouse agree."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import click
import psycopg2

from landing import database, project
from landing.errors import LandingError, ProofError, SettingError, describe, reported
from landing.ledger import Ledger
from landing.proof import Proof, TableProof
from landing.zone import LandingZone, Manifest

VARIABLES = {"host": "HOST", "port": "PORT", "dbname": "DB", "user": "USER", "password": "PASSWORD",
             "sslmode": "SSLMODE"}


def connect() -> Any:
    """The warehouse that TARGET_POSTGRES_… names, in the environment or in the project's .env."""
    values = _dotenv() | os.environ
    missing = [f"TARGET_POSTGRES_{name}" for name in VARIABLES.values() if f"TARGET_POSTGRES_{name}" not in values]
    if missing:
        raise SettingError(f"{', '.join(missing)} not set. Write them into .env (see .env.example), or run make demo.")
    arguments = {key: values[f"TARGET_POSTGRES_{name}"] for key, name in VARIABLES.items()}
    return database.connect(arguments, "landing")


def _dotenv() -> dict[str, str]:
    from dotenv import dotenv_values

    return {key: value or "" for key, value in dotenv_values(project.root() / ".env").items()}


def landing_zone() -> LandingZone:
    """The landing zone that LANDING_ROOT names, in the environment or in the project's .env."""
    return LandingZone(project.landing_root(os.environ.get("LANDING_ROOT") or _dotenv().get("LANDING_ROOT")))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns as wide as they need, numbers to the right."""
    text = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *text]) for i in range(len(head))]
    right = [bool(rows) and all(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(cell.rjust(width) if to_right else cell.ljust(width)
                  for cell, width, to_right in zip(line, widths, right, strict=True)).rstrip()
        for line in [list(head), ["-" * width for width in widths], *text]
    ]
    return "\n".join(lines)


@click.group()
def main() -> None:
    """Look at the landing zone."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)


@main.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--schema", default=lambda: os.environ.get("SCHEMA", "public"), help="The warehouse's schema.")
def list_(as_json: bool, schema: str) -> None:
    """Every source and date: tables, rows, bytes, when taken, whether loaded."""
    with reported(logging.getLogger("landing")):
        zone = landing_zone()
        manifests = [zone.require(source, day) for source, day in zone.landed()]
        loaded = _loaded(schema)
        rows = [_line(manifest, loaded) for manifest in manifests]
        if as_json:
            names = ("source", "extracted_at", "tables", "rows", "bytes", "taken_at", "run_id", "loaded")
            click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=1))
        elif rows:
            click.echo(table(("source", "extracted_at", "tables", "rows", "bytes", "taken at (UTC)", "run", "loaded"),
                             rows))
        else:
            click.echo(f"Nothing is landed in {zone.root}. Begin with: "
                       f"{project.extract_command('postgres', project.today())}")


def _line(manifest: Manifest, loaded: dict[tuple[str, date], set[str]] | None) -> tuple[Any, ...]:
    runs = None if loaded is None else loaded.get((manifest.source, manifest.extracted_at), set())
    state = "unknown" if runs is None else "no" if not runs else "yes" if runs == {manifest.run_id} else "an older run"
    return (
        manifest.source, manifest.extracted_at.isoformat(), len(manifest.tables),
        sum(t.rows for t in manifest.tables), sum(t.bytes for t in manifest.tables),
        f"{manifest.taken_at:%Y-%m-%d %H:%M:%S}", manifest.run_id, state,
    )


def _loaded(schema: str) -> dict[tuple[str, date], set[str]] | None:
    """Run ids in the ledger by source and date; None, said on stderr, where the warehouse can't be asked."""
    found: dict[tuple[str, date], set[str]] = {}
    try:
        with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
            ledger = Ledger(cursor, f"{schema}_history")
            runs = ledger.runs() if ledger.exists() else {}
    except (LandingError, psycopg2.Error) as error:
        why = describe(error) if isinstance(error, psycopg2.Error) else error
        click.echo(f"The warehouse could not be asked what is loaded: {why}", err=True)
        return None
    for (source, day, _), run_id in runs.items():
        found.setdefault((source, day), set()).add(run_id)
    return found


@main.command()
@click.argument("day", metavar="DATE")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--schema", default=lambda: os.environ.get("SCHEMA", "public"), help="The warehouse's schema.")
def verify(day: str, as_json: bool, schema: str) -> None:
    """Prove a date: source = files = warehouse, by SHA-256. Exits non-zero if any table differs."""
    with reported(logging.getLogger("landing")):
        when = project.parse_date(day, "DATE")
        zone = landing_zone()
        manifests = [zone.require(source, when) for source in project.declared_sources()]
        with contextlib.closing(connect()) as connection:
            proof = Proof(zone, connection, schema)
            proofs = [one for manifest in manifests for one in proof.tables(manifest)]
        click.echo(json.dumps([asdict(one) | {"equal": one.holds} for one in proofs], indent=1) if as_json
                   else _report(proofs))
        wrong = [one for one in proofs if not one.holds]
        if wrong:
            raise ProofError(_what_next(wrong, when, schema))


def _report(proofs: Sequence[TableProof]) -> str:
    head = ("source", "table", "rows", "bytes", "sha256: source", "files", "warehouse", "equal")
    rows = [
        (one.source, one.table, one.rows, one.bytes, *((value or "-")[:12] for value in
                                                       (one.landed, one.files, one.warehouse)),
         "yes" if one.holds else f"NO: {one.problem}")
        for one in proofs
    ]
    equal = sum(one.holds for one in proofs)
    rows_in_all = sum(one.rows for one in proofs)
    return f"{table(head, rows)}\n{equal} of {len(proofs)} tables equal, {rows_in_all:,} rows."


def _what_next(wrong: Sequence[TableProof], day: date, schema: str) -> str:
    """Files that are damaged are landed again; a warehouse that differs is loaded again."""
    names = ", ".join(f"{one.source}.{one.table} ({one.problem})" for one in wrong)
    commands = [
        f"REEXTRACT=true {project.extract_command(source, day)}"
        for source in sorted({one.source for one in wrong if one.files != one.landed})
    ]
    commands.append(f"RELOAD=true {project.load_command(day, schema)}")
    return f"{day} is not proved: {names}. To mend it: {' && '.join(commands)}"




