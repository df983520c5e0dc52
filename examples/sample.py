"""What the generators of PostgreSQL samples share: a sample has a first day, and changes with each later one."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from landing.api import SettingError, connect
from psycopg2 import sql
from psycopg2.extras import execute_values

Cursor = Any
Rows = Sequence[Sequence[Any]]


def bring_to(day: date, folder: Path, change: Callable[[Cursor, random.Random, date], None],
             rows: Callable[[random.Random, date], Iterable[tuple[str, Rows]]], schema: str = "public") -> None:
    """Bring the sample in the SOURCE database to a day; the same day or an earlier one changes nothing.

    Args:
        day: The day.
        folder: The example's, with `schema.sql`.
        change: What happens on a day after the first.
        rows: The tables of the first day, with their rows.
        schema: Where the tables are.

    Raises:
        SettingError: The database has tables that this module did not write.
    """
    with contextlib.closing(connect("SOURCE")) as connection:
        connection.autocommit = False
        with connection, connection.cursor() as cursor:
            cursor.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(schema)))
            cursor.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database "
                           "WHERE datname = current_database()")
            state = json.loads(cursor.fetchone()[0] or "{}")
            if not state:
                _refuse_tables(cursor, schema)
                cursor.execute((folder / "schema.sql").read_text("utf-8"))
                for table, values in rows(random.Random(f"{folder.name}"), day):
                    insert(cursor, table, values)
            elif str(day) > state["last"]:
                change(cursor, random.Random(f"{folder.name}/{day}"), day)
            else:
                print(f"The sample is of {state['last']}: nothing to change for {day}", flush=True)
                return
            state = {"sample": folder.name, "first": state.get("first", str(day)), "last": str(day)}
            cursor.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                sql.Identifier(connection.info.dbname), sql.Literal(json.dumps(state))))
    what = "" if state["first"] == str(day) else ": a day of changes"
    print(f"The sample {folder.name} is of {day}{what}", flush=True)


def _refuse_tables(cursor: Cursor, schema: str) -> None:
    cursor.execute("SELECT count(*) FROM pg_tables WHERE schemaname = %s", [schema])
    if cursor.fetchone()[0]:
        raise SettingError(f"Database {cursor.connection.info.dbname} has tables that are not the sample's. Nothing "
                           "was written. Set SOURCE_POSTGRES_* to read it as it is.")


def insert(cursor: Cursor, table: str, rows: Rows) -> None:
    """Insert rows, in the order of the table's columns."""
    execute_values(cursor, sql.SQL("INSERT INTO {} VALUES %s").format(sql.Identifier(table)).as_string(cursor),
                   list(rows), page_size=1000)


def fetch(cursor: Cursor, query: str, *values: Any) -> list[Any]:
    """The first column of all rows."""
    cursor.execute(query, values)
    return [row[0] for row in cursor.fetchall()]
