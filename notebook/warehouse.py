"""The warehouse as it was on one date, for the notebook and its runner.

Nothing stays open between two cells: a notebook that is left in a browser must not keep a load waiting.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import psycopg2
from IPython import get_ipython
from IPython.display import Markdown, display
from landing.api import (
    PARTITION_KEY,
    LandingError,
    LandingZone,
    LoadHistory,
    SettingError,
    VerificationError,
    WarehouseError,
    columns_of,
    connect,
    declared_sources,
    extract_command,
    history_name,
    keep_private,
    load_command,
    parse_date,
    project_root,
    today,
)
from psycopg2 import errors as pg_errors
from psycopg2 import sql

ROOT = project_root()

# What a warehouse that is not a shop answers to a question about orders.
NOT_A_SHOP = (pg_errors.UndefinedTable, pg_errors.UndefinedColumn, pg_errors.UndefinedFunction)

# A sentence that is meant for people needs no traceback above it; IPython asks an exception for this.
LandingError._render_traceback_ = lambda self: [f"{type(self).__name__}: {self}"]


def parameters(**given: Any) -> dict[str, Any]:
    """The notebook's parameters, after a look for misspelt ones: papermill only warns of those."""
    shell = get_ipython()
    cells = shell.user_ns["In"] if shell else []
    injected = [ast.parse(cell) for cell in cells if cell.startswith("# Parameters\n")]
    names = {node.id for tree in injected for node in ast.walk(tree)
             if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    if unknown := sorted(names - {*given}):
        raise SettingError(f"No parameter of this notebook: {', '.join(unknown)}. It knows {', '.join(given)}.")
    return given


def _parsed(text: str) -> date:
    try:
        return parse_date(text, "extracted_at")
    except SettingError:
        raise SettingError(f"{text!r} is not a date. Expected a calendar date as YYYY-MM-DD, such as "
                           f"{today()}; leave it unset for the newest that is loaded.") from None


def run_name(name: str, day: date, schema: str) -> str:
    """`<name>@<date>`, with the schema where it is not `public`; never a path."""
    return f"{name}@{day}" if schema == "public" else f"{name}@{day}.{quote(schema, safe='')}"


def output(name: str) -> Path:
    """Where evidence goes: a file in the landing root's folder `notebook`."""
    keep_private([])
    folder = LandingZone.configured().root / "notebook"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


class Day:
    """A date that is landed and loaded; anything else raises, naming the command to run."""

    def __init__(self, extracted_at: str | None = None, schema: str = "public") -> None:
        """`extracted_at` as YYYY-MM-DD; None is the newest date that is loaded."""
        self.date = None if extracted_at is None else _parsed(str(extracted_at))
        self.schema, self.history = schema, f"{schema}_history"
        loaded = self._loaded()
        if self.date not in loaded:
            raise WarehouseError(self._not_loaded(loaded))
        self.before = max((day for day in loaded if day < self.date), default=None)
        zone = LandingZone.configured()
        manifests = [zone.require(source, self.date) for source in declared_sources()]
        self.tables = [table for manifest in manifests for table in manifest.tables]

    def __str__(self) -> str:
        return f"{self.date} in schema {self.schema}: {len(self.tables)} tables"

    def _loaded(self) -> list[date]:
        """Dates of which all declared sources are loaded; the newest becomes ours, if none was asked for."""
        with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
            found = {(entry.source, entry.day) for entry in LoadHistory(cursor, self.history).present()}
        sources = declared_sources()
        loaded = sorted(day for day in {day for _, day in found} if all((source, day) in found for source in sources))
        self.date = self.date or max(loaded, default=None)
        return loaded

    def _not_loaded(self, loaded: list[date]) -> str:
        day = self.date or today()
        zone = LandingZone.configured()
        missing = [source for source in declared_sources() if not zone.manifest(source, day)]
        commands = [*(extract_command(source, day) for source in missing),
                    load_command(day, self.schema)]
        found = f"{len(loaded)} dates, {loaded[0]} to {loaded[-1]}" if loaded else "none"
        return f"{day} is not loaded into {self.schema} (loaded: {found}). Run: {' && '.join(commands)}"

    def _landing(self, command: str, *arguments: str) -> tuple[pd.DataFrame, str]:
        """The rows that the landing command says for programs, and what it complains of."""
        program = ROOT / "plugins/.venv/bin/landing"
        done = subprocess.run([program, command, *arguments, "--json", "--schema", self.schema],  # noqa: S603
                              cwd=ROOT, capture_output=True, text=True, check=False)
        if not done.stdout.strip():
            raise LandingError(done.stderr.strip())
        return pd.DataFrame(json.loads(done.stdout)), done.stderr.strip() if done.returncode else ""

    def verify(self) -> tuple[pd.DataFrame, str]:
        """A row per table of `landing verify`, and its verdict where one does not agree, else an empty string."""
        return self._landing("verify", str(self.date))

    def changes(self) -> pd.DataFrame:
        """A row per table of `landing diff` between the date loaded before and this one."""
        return self._landing("diff", str(self.before), str(self.date))[0]

    def loads(self) -> pd.DataFrame:
        """The ledger of all dates: table_name, extracted_at, rows."""
        with self._cursor() as cursor:
            found = [(entry.table, entry.day, entry.rows) for entry in LoadHistory(cursor, self.history).present()]
        return pd.DataFrame(sorted(found), columns=["table_name", "extracted_at", "rows"])

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        """Sees the tables of this date under their own names, whatever date the warehouse's views show."""
        with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SET LOCAL search_path = pg_temp")
            for table in self.tables:
                there = columns_of(cursor, sql.Identifier(self.history, table.name))
                fields = [sql.SQL("{} AS {}").format(sql.Identifier(history_name(name)), sql.Identifier(name))
                          for name in (column.name for column in table.columns) if history_name(name) in there]
                if there:
                    cursor.execute(sql.SQL("CREATE TEMPORARY VIEW {} AS SELECT {} FROM {} WHERE {} = {}::date").format(
                        sql.Identifier(table.name), sql.SQL(", ").join(fields),
                        sql.Identifier(self.history, table.name), sql.Identifier(PARTITION_KEY),
                        sql.Literal(str(self.date))))
            yield cursor

    def show(self, query: str, picture: Callable[[pd.DataFrame], Any]) -> Any:
        """A picture of what a query gives, or the reason why this warehouse has no answer to it."""
        try:
            with self._cursor() as cursor:
                cursor.execute(query)
                found = _frame(cursor)
        except NOT_A_SHOP as error:
            return _left_out(error)
        return picture(found) if len(found) else Markdown("*No rows.*")

    def evidence(self, query: str, name: str, picture: Callable[[pd.DataFrame], Any], rows: int = 6) -> None:
        """Write all that a query gives as CSV into output/notebook, and picture its first rows."""
        query = query.rstrip().rstrip(";")
        path = output(f"{run_name(name, self.date, self.schema)}.csv")
        part = path.with_suffix(".part")
        try:
            with self._cursor() as cursor, part.open("wb") as file:
                cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", file)
                count = cursor.rowcount
                cursor.execute(f"DECLARE evidence CURSOR FOR {query}")
                cursor.execute("FETCH %s FROM evidence", (rows,))
                found = _frame(cursor)
            part.replace(path)
        except NOT_A_SHOP as error:
            display(_left_out(error))
            return
        finally:
            part.unlink(missing_ok=True)
        display(Markdown(f"{count:,} rows of {len(found.columns)} columns, whole in `{os.path.relpath(path, ROOT)}`; "
                         f"the first {len(found)}:"))
        display(picture(found))

    def conclude(self, verdict: str) -> Markdown:
        """The end: raises VerificationError with the verdict if there is one."""
        if verdict:
            raise VerificationError(verdict)
        return Markdown(f"**{self.date} agrees**: source = files = warehouse, {len(self.tables)} tables.")


def _left_out(error: psycopg2.Error) -> Markdown:
    return Markdown(f"*Left out, since this warehouse is no shop of that kind: {error.diag.message_primary}.*")


def _frame(cursor: Any) -> pd.DataFrame:
    return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description])
