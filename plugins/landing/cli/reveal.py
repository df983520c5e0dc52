"""`landing reveal`: a landed table with encrypted columns in plain."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import BinaryIO

import click

from landing.cli.options import answered, logger
from landing.core.dates import parse_date
from landing.core.errors import NotLandedError, SettingError, describe
from landing.export.reveal import Reveal
from landing.model.manifest import Manifest
from landing.model.schema import Table
from landing.protection.keys import KeyRing
from landing.zone.landing_zone import LandingZone


@click.command(short_help="A landed table with its encrypted columns in plain.")
@click.argument("day", metavar="DATE")
@click.argument("table")
@click.option("--source", metavar="NAME", help="The source, where several have the table.")
@click.option("--to", "path", type=click.Path(path_type=Path), metavar="FILE",
              help="Write a new file that only its owner can read. Default: standard output.")
@click.option("--quarantine", is_flag=True, help="Its rejected rows instead, as JSON lines.")
def reveal(day: str, table: str, source: str | None, path: Path | None, quarantine: bool) -> None:
    """Write a landed TABLE as CSV, with encrypted columns in plain; tokens and masks stay as they are landed.

    Needs the keys that encrypted it, in PROTECTION_KEYS or PROTECTION_KEYS_FILE. TABLE is a name, schema.table, or an
    entity. The values are PostgreSQL's text, as they would be landed without protection.
    """
    with answered(False):
        zone, keys = LandingZone.configured(), KeyRing.configured()
        manifest, found = _found(zone, parse_date(day, "DATE"), table, source)
        revealed = Reveal(zone, manifest, found, keys)
        with _opened(path) as out:
            count = revealed.rejected(out) if quarantine else revealed.rows(out)
        logger.info("%s of %s, %s: %s %srows in plain%s.", found.name, manifest.source, day, f"{count:,}",
                    "rejected " if quarantine else "", f" in {path}" if path else "")


def _found(zone: LandingZone, day: date, name: str, source: str | None) -> tuple[Manifest, Table]:
    """The table with a name, and its manifest. Raises NotLandedError, or SettingError if several have it."""
    manifests = [zone.require(one, day) for one, when in sorted(zone.landed()) if when == day and source in (None, one)]
    found = [(manifest, table) for manifest in manifests for table in manifest.tables
             if name in (table.name, table.stream, f"{table.schema}.{table.name}")]
    if not found:
        there = ", ".join(sorted({table.name for manifest in manifests for table in manifest.tables})[:20])
        raise NotLandedError(f"{source or 'No source'} has no table {name!r} landed for {day}. "
                             f"{f'There is: {there}' if there else '`landing list` shows what is landed'}.")
    if len(found) > 1:
        which = ", ".join(f"{manifest.source}: {table.stream}" for manifest, table in found)
        raise SettingError(f"Several tables of {day} are called {name!r} ({which}). Run again with --source, or with "
                           "schema.table.")
    return found[0]


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    """A new file, removed if writing it fails; or standard output. Raises SettingError if the file exists."""
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SettingError(f"--to: {describe(error)}. Give the name of a new file, and run again.") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except BaseException:
        path.unlink()
        raise
