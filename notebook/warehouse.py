"""One loaded date of the warehouse, for the notebook and its runner.

No connection stays open between two cells: an open notebook must not block a load.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
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
    LandedDate,
    LandingError,
    LandingZone,
    LoadHistory,
    SettingError,
    VerificationError,
    WarehouseError,
    columns_of,
    connect,
    history_name,
    keep_private,
    load_command,
    parse_date,
    project_root,
    results_folder,
    today,
)
from psycopg2 import errors as pg_errors
from psycopg2 import sql

ROOT = project_root()

# Errors of the sample queries in a warehouse without the sample shop.
NOT_A_SHOP = (pg_errors.UndefinedTable, pg_errors.UndefinedColumn, pg_errors.UndefinedFunction)

# IPython prints only the message of these errors, without a traceback.
LandingError._render_traceback_ = lambda self: [f"{type(self).__name__}: {self}"]


def parameters(**given: Any) -> dict[str, Any]:
    """The notebook's parameters.

    Raises:
        SettingError: An injected parameter is unknown. Papermill only warns.
    """
    shell = get_ipython()
    cells = shell.user_ns["In"] if shell else []
    injected = [ast.parse(cell) for cell in cells if cell.startswith("# Parameters\n")]
    names = {node.id for tree in injected for node in ast.walk(tree)
             if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    if unknown := sorted(names - {*given}):
        raise SettingError(f"Unknown parameter: {', '.join(unknown)}. Parameters of this notebook: {', '.join(given)}.")
    return given


def _parsed(text: str) -> date:
    try:
        return parse_date(text, "extracted_at")
    except SettingError:
        raise SettingError(f"{text!r} is not a date. Expected a calendar date as YYYY-MM-DD, such as "
                           f"{today()}; leave it unset for the newest loaded date.") from None


def run_name(name: str, day: date, schema: str) -> str:
    """`<name>@<date>`, with the schema unless it is `public`, quoted so that it is never a path."""
    return f"{name}@{day}" if schema == "public" else f"{name}@{day}.{quote(schema, safe='')}"


def output(name: str) -> Path:
    """Path of an output file: in folder `notebook` of the landing root."""
    keep_private([])
    folder = results_folder() / "notebook"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


class Day:
    """A landed and loaded date. Errors contain the command to run."""

    def __init__(self, extracted_at: str | None = None, schema: str = "public") -> None:
        """`extracted_at`: YYYY-MM-DD; None for the newest loaded date."""
        self.date = None if extracted_at is None else _parsed(str(extracted_at))
        self.schema, self.history = schema, f"{schema}_history"
        loaded = self._loaded()
        if self.date not in loaded:
            raise WarehouseError(self._not_loaded(loaded))
        self.before = max((day for day in loaded if day < self.date), default=None)
        self.tables = [(manifest.source, table) for manifest in loaded[self.date].manifests()
                       for table in manifest.tables]

    def __str__(self) -> str:
        return f"{self.date} in schema {self.schema}: {len(self.tables)} tables"

    def _loaded(self) -> dict[date, LandedDate]:
        """Dates with all their sources loaded, in order. Sets `date` to the newest if it is None."""
        zone = LandingZone.configured()
        with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
            history = LoadHistory(cursor, self.history)
            found = {(entry.source, entry.day) for entry in history.present()}
            dates = [LandedDate(zone, day, history.left_out(day)) for day in sorted({day for _, day in found})]
        loaded = {one.day: one for one in dates if all((source, one.day) in found for source in one.sources)}
        self.date = self.date or max(loaded, default=None)
        return loaded

    def _not_loaded(self, loaded: Mapping[date, LandedDate]) -> str:
        landed = LandedDate(LandingZone.configured(), self.date or today())
        found = f"{len(loaded)} dates, {min(loaded)} to {max(loaded)}" if loaded else "none"
        steps = [landed.how_to_land()] if landed.missing else []
        steps.append(f"{'Then run' if steps else 'Run'}: {load_command(landed.day, self.schema)}")
        return f"{landed.day} is not loaded into {self.schema} (loaded: {found}). {'. '.join(steps)}"

    def _landing(self, command: str, *arguments: str) -> tuple[pd.DataFrame, str]:
        """The JSON rows of a landing command, and its error message if it failed after it had them.

        Raises:
            LandingError: It failed without any.
        """
        program = ROOT / "plugins/.venv/bin/landing"
        done = subprocess.run([program, command, *arguments, "--json", "--schema", self.schema],  # noqa: S603
                              cwd=ROOT, capture_output=True, text=True, check=False)
        answer = json.loads(done.stdout or "{}")
        if isinstance(answer, dict):
            raise LandingError(answer["error"]["message"] if answer else done.stderr.strip())
        return pd.DataFrame(answer), done.stderr.strip() if done.returncode else ""

    def verify(self) -> tuple[pd.DataFrame, str]:
        """One row per table from `landing verify`, and its error message, empty if all tables match."""
        return self._landing("verify", str(self.date))

    def changes(self) -> pd.DataFrame:
        """One row per table from `landing diff` between the previous loaded date and this one."""
        return self._landing("diff", str(self.before), str(self.date))[0]

    def loads(self) -> pd.DataFrame:
        """The load history of all dates: table_name, extracted_at, rows."""
        with self._cursor() as cursor:
            found = [(entry.label(self.schema), entry.day, entry.rows)
                     for entry in LoadHistory(cursor, self.history).present()]
        return pd.DataFrame(sorted(found), columns=["table_name", "extracted_at", "rows"])

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Any]:
        """A cursor that sees this date's tables under their own names, whichever date the views show.

        A table in another schema is `"schema.table"`, and `table` if no other has that name.
        """
        with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SET LOCAL search_path = pg_temp")
            loaded = LoadHistory(cursor, self.history).loaded(self.date)
            found = [(table, entry) for source, table in self.tables if (entry := loaded.get(source, table))]
            counts = Counter(entry.table for _, entry in found)
            for table, entry in found:
                names = {entry.label(self.schema), *([entry.table] if counts[entry.table] == 1 else [])}
                relation = sql.Identifier(entry.history, entry.table)
                there = columns_of(cursor, relation)
                fields = [sql.SQL("{} AS {}").format(sql.Identifier(history_name(name)), sql.Identifier(name))
                          for name in (column.name for column in table.columns) if history_name(name) in there]
                for name in sorted(names):
                    cursor.execute(sql.SQL("CREATE TEMPORARY VIEW {} AS SELECT {} FROM {} WHERE {} = {}::date").format(
                        sql.Identifier(name), sql.SQL(", ").join(fields), relation, sql.Identifier(PARTITION_KEY),
                        sql.Literal(str(self.date))))
            yield cursor

    def show(self, query: str, chart: Callable[[pd.DataFrame], Any]) -> Any:
        """Chart a query's result, or say why this warehouse cannot answer it."""
        try:
            with self._cursor() as cursor:
                cursor.execute(query)
                found = _frame(cursor)
        except NOT_A_SHOP as error:
            return _skipped(error)
        return chart(found) if len(found) else Markdown("*No rows.*")

    def evidence(self, query: str, name: str, chart: Callable[[pd.DataFrame], Any], rows: int = 6) -> None:
        """Write a query's whole result as CSV to output/notebook, and display its first rows."""
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
            display(_skipped(error))
            return
        finally:
            part.unlink(missing_ok=True)
        display(Markdown(f"{count:,} rows of {len(found.columns)} columns, all in `{os.path.relpath(path, ROOT)}`; "
                         f"the first {len(found)}:"))
        display(chart(found))

    def conclude(self, verdict: str) -> Markdown:
        """The verdict of verify(): raises VerificationError if a table differs."""
        if verdict:
            raise VerificationError(verdict)
        return Markdown(f"**{self.date} verified**: source = files = warehouse, {len(self.tables)} tables.")


def _skipped(error: psycopg2.Error) -> Markdown:
    return Markdown("*Skipped, because this warehouse does not contain the sample shop: "
                    f"{error.diag.message_primary}.*")


def _frame(cursor: Any) -> pd.DataFrame:
    return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description])
