"""Runs the notebook for one date without a browser, for `make notebook DATE=2024-01-20`.

    python notebook/run.py             DATE and SCHEMA from the environment; default: newest loaded date, public
    python notebook/run.py --commit    the newest date; writes the committed notebook and docs/

The executed notebook and its HTML go to output/notebook/query_data@<date>; the source notebook does not change. Exits
with status 1 and a message if the date is not loaded, a table differs, or a cell fails.
"""

# ruff: noqa: E402 - two lines must precede the imports
from __future__ import annotations

import html
import os
import sys
import tempfile
from pathlib import Path
from string import Template
from typing import Any

NOTEBOOK = Path(__file__).absolute().with_name("query_data.ipynb")
os.environ.setdefault("MELTANO_PROJECT_ROOT", str(NOTEBOOK.parent.parent))
# A grammar of URIs that no notebook needs; building it takes longer than the whole run.
sys.modules["rfc3987_syntax"] = None

import nbformat
import psycopg2
import warehouse
from landing import api
from landing.api import LandingError, describe
from nbconvert import HTMLExporter
from papermill import PapermillExecutionError, execute_notebook
from papermill.engines import NBClientEngine, papermill_engines
from papermill.execute import remove_error_markers
from pygments.formatters import HtmlFormatter
from traitlets.config import Config

PAGE = NOTEBOOK.with_name("page.html")
COMMITTED_PAGE = warehouse.ROOT / "docs" / "query_data.html"
# Other users of this machine must not read the kernel's output.
KERNEL = Config({"KernelManager": {"transport_encryption": "auto"}})
QUIET = ["--IPKernelApp.log_level=CRITICAL"]  # it logs its own shutdown as an error


class HeadingEngine(NBClientEngine):
    """Papermill's engine; prints each heading when it is reached."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, *arguments: Any, **options: Any) -> Any:
        start = nb_man.cell_start

        def print_heading(cell: Any, index: int, **more: Any) -> None:
            if cell.cell_type == "markdown" and cell.source.startswith("## "):
                print("  " + cell.source.partition("\n")[0].removeprefix("## "), flush=True)
            start(cell, index, **more)

        nb_man.cell_start = print_heading
        return super().execute_managed_notebook(nb_man, *arguments, **options)


papermill_engines.register("headings", HeadingEngine)


def execute(target: Path, parameters: dict[str, str]) -> str:
    """Run the notebook and write the result to `target`.

    Returns:
        The error message of the cell that failed, or an empty string.
    """
    try:
        execute_notebook(NOTEBOOK, target, parameters, engine_name="headings", progress_bar=False, cwd=warehouse.ROOT,
                         config=KERNEL, extra_arguments=QUIET)
    except PapermillExecutionError as error:
        return error.evalue if hasattr(api, error.ename) else f"{error.ename}: {error.evalue}"
    return ""


def page(notebook: Any, title: str, problem: str = "") -> str:
    """A self-contained HTML page: nbconvert's basic body in our template."""
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(remove_error_markers(notebook))
    return Template(PAGE.read_text("utf-8")).substitute(
        title=html.escape(title), css=HtmlFormatter(style="default").get_style_defs(".highlight"), body=body,
        problem=f'<p class="problem">{html.escape(problem)}</p>' if problem else "",
    )


def tidied(notebook: Any) -> Any:
    """Remove metadata that differs between runs and machines."""
    kept = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    notebook.metadata = nbformat.from_dict(kept)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    return notebook


def commit() -> None:
    """Run the notebook and overwrite its committed outputs."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / NOTEBOOK.name
        problem = execute(target, {})
        if problem:
            sys.exit(f"notebook: not written: {problem}")
        notebook = tidied(nbformat.read(target, as_version=4))
    nbformat.write(notebook, NOTEBOOK)
    COMMITTED_PAGE.write_text(page(notebook, NOTEBOOK.stem), "utf-8")


def main() -> None:
    if sys.argv[1:] == ["--commit"]:
        return commit()
    day = warehouse.Day(os.environ.get("DATE"), os.environ.get("SCHEMA") or "public")
    print(f"{NOTEBOOK.stem} for {day}", flush=True)
    target = warehouse.output(warehouse.run_name(NOTEBOOK.stem, day.date, day.schema) + ".ipynb")
    problem = execute(target, {"extracted_at": str(day.date), "schema": day.schema})
    written = target.with_suffix(".html")
    written.write_text(page(nbformat.read(target, as_version=4), target.stem, problem), "utf-8")
    print(f"Results: {os.path.relpath(written)}, {os.path.relpath(target)}", flush=True)
    return sys.exit(f"notebook: {problem}" if problem else 0)


if __name__ == "__main__":
    try:
        main()
    except LandingError as error:
        sys.exit(f"notebook: {error}")
    except psycopg2.Error as error:
        sys.exit(f"notebook: PostgreSQL: {describe(error)}")
