"""Copies the rejected rows of a landed date, without the rows themselves, into a table of the warehouse."""

from __future__ import annotations

import contextlib
import json
from datetime import date

from landing.api import LandingZone, connect
from psycopg2 import sql
from psycopg2.extras import execute_values


def copy(source: str, day: date, schema: str) -> None:
    """Replace the date's rows of `<schema>.rejected_rows`, which a migration makes."""
    zone = LandingZone.configured()
    manifest = zone.require(source, day)
    rows = []
    for table in manifest.tables:
        if table.quarantine:
            with zone.file(manifest, table.quarantine).open() as file:
                rows += [(day, *_fields(line)) for line in file.read().splitlines()]
    name = sql.Identifier(schema, "rejected_rows")
    with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(sql.SQL("DELETE FROM {} WHERE extracted_at = %s").format(name), [day])
        execute_values(cursor, sql.SQL("INSERT INTO {} VALUES %s").format(name).as_string(cursor), rows)
        cursor.execute("COMMIT")


def _fields(line: bytes) -> tuple[object, ...]:
    entry = json.loads(line)
    return tuple(entry[name] for name in ("file", "line", "column", "rule", "reason"))
