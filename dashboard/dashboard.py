"""Write the dashboard of a Meltano project from its marts: one static page.

    python dashboard/dashboard.py             <results folder>/dashboard.html
    python dashboard/dashboard.py --commit    and docs/dashboards/<name>.html and .svg, which the READMEs show

It shows the date of EXTRACTED_AT, by default the newest loaded one. `transform/dashboard.yml` has the wording and the
queries: `figures` gives one row, a figure a column; a chart's query gives a label and one or more numbers.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import psycopg2
import yaml
from charts import KINDS, Table
from landing.api import (
    BuildDate,
    LandingError,
    LoadHistory,
    SettingError,
    WarehouseError,
    build_date,
    connect,
    keep_private,
    parse_date,
    project_root,
    results_folder,
    transform_command,
)
from psycopg2 import errors as pg_errors
from psycopg2 import sql
from rendering import Chart, Dashboard, page, picture

COMMITTED = Path(__file__).resolve().parent.parent / "docs" / "dashboards"
ABSENT = (pg_errors.UndefinedTable, pg_errors.UndefinedColumn, pg_errors.InvalidSchemaName)


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


def marts(project: dict[str, Any], schema: str, date: BuildDate) -> str:
    """The schema of the marts of a date, as the macro generate_schema_name has it."""
    named = schema == "public" or (project.get("vars") or {}).get("schemas_as_named")
    return f"{'' if named else schema + '_'}marts{date.suffix}"


def answer(cursor: Any, query: str) -> Table:
    cursor.execute(query)
    return Table([column.name for column in cursor.description], cursor.fetchall())


def filled(folder: Path, schema: str, requested: str | None) -> Dashboard:
    """The dashboard of a date, from one snapshot of the warehouse.

    Raises:
        LandingError: The date is not loaded, its marts are not built, or a chart's kind is unknown.
    """
    declared, project = read(folder / "dashboard.yml"), read(folder / "dbt_project.yml")
    if unknown := sorted({one["kind"] for one in declared["charts"]} - {*KINDS}):
        raise SettingError(f"{folder / 'dashboard.yml'}: {', '.join(unknown)} is no kind of chart. Expected "
                           f"{' or '.join(KINDS)}. Correct it, and run again.")
    with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        date = build_date(LoadHistory(cursor, f"{schema}_history"), requested and parse_date(requested, "EXTRACTED_AT"))
        where = marts(project, schema, date)
        cursor.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(where)))
        try:
            figures = answer(cursor, declared["figures"])
            charts = [Chart(one["title"], one["kind"], one["query"], answer(cursor, one["query"]))
                      for one in declared["charts"]]
        except ABSENT as error:
            raise WarehouseError(f"Schema {where} does not have what {folder / 'dashboard.yml'} shows: "
                                 f"{error.diag.message_primary}. Build it: {transform_command(date.day, schema)}. Of "
                                 "other marts: correct that file, or remove it.") from None
    return Dashboard(declared["title"], declared["about"], str(date.day), where,
                     list(zip(figures.columns, figures.rows[0], strict=True)), charts)


def main() -> None:
    folder = project_root() / "transform"
    if not (folder / "dashboard.yml").exists():
        return print(f"No dashboard: there is no {folder / 'dashboard.yml'}", flush=True)
    board = filled(folder, os.environ.get("SCHEMA") or "public", os.environ.get("EXTRACTED_AT"))
    path = results_folder() / "dashboard.html"
    keep_private([])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(board), "utf-8")
    print(f"Dashboard of {board.day}: {path}", flush=True)
    if sys.argv[1:] == ["--commit"]:
        COMMITTED.mkdir(exist_ok=True)
        name = read(folder / "dbt_project.yml")["name"]
        (COMMITTED / f"{name}.html").write_text(page(board), "utf-8")
        (COMMITTED / f"{name}.svg").write_text(picture(board), "utf-8")
    return None


if __name__ == "__main__":
    try:
        main()
    except LandingError as error:
        sys.exit(f"dashboard: {error}")
    except (psycopg2.Error, OSError) as error:
        sys.exit(f"dashboard: {str(error).strip()}")
