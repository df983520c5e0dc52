"""Runs dbt on one loaded date: the utility `dbt`.

dbt has an environment of its own, transform/.venv. What it needs to know goes by variables: the warehouse as .env has
it, TRANSFORM_DATE and TRANSFORM_SUFFIX. A lock lets one dbt at a time change the schemas of a SCHEMA, so that a build
of an older date that ends later replaces nothing of the newest one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from landing.core.commands import transform_command
from landing.core.dates import parse_date
from landing.core.errors import SettingError, TransformError, WarehouseError
from landing.core.reporting import reported
from landing.core.settings import keep_private, results_folder, root, settings
from landing.load.load_history import LoadHistory
from landing.load.locks import SchemaLock
from landing.postgres.configured import connect
from landing.postgres.tls import certificate_authority
from landing.transform import process
from landing.transform.build_date import BuildDate, build_date
from landing.transform.results import failures

REPOSITORY = Path(__file__).resolve().parents[3]
WITHOUT_DATE = {"clean", "debug", "deps", "init", "list", "ls", "parse"}  # and those that are only options
LOCK_TIMEOUT = 3600  # seconds that a run waits for another
logger = logging.getLogger("dbt")


def main() -> None:
    """Run dbt with this process's arguments; exit with 0 or 1."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    with reported(logger):
        keep_private([])
        run(sys.argv[1:])


def run(arguments: Sequence[str]) -> None:
    """Run dbt, on EXTRACTED_AT or the newest loaded date.

    Raises:
        SettingError: dbt is not installed, or EXTRACTED_AT is invalid.
        WarehouseError: The date is not loaded, or another run holds the lock.
        TransformError: A model or a test failed.
    """
    program = executable()
    variables = settings() | _variables()
    if not arguments or arguments[0].startswith("-") or arguments[0] in WITHOUT_DATE:
        _call([program, *arguments], variables, "dbt")
        return
    schema = variables.get("SCHEMA") or "public"
    with locked_date(schema) as date:
        _announce(date)
        variables |= {"SCHEMA": schema, "TRANSFORM_DATE": date.day.isoformat(), "TRANSFORM_SUFFIX": date.suffix}
        _call([program, *arguments], variables, transform_command(date.day, schema))
    if [*arguments[:2]] == ["docs", "generate"] and "--static" in arguments:
        _publish(Path(variables["DBT_TARGET_PATH"]))


def is_set_up() -> bool:
    """Whether the project has models, and dbt is installed."""
    return (root() / "transform/dbt_project.yml").exists() and any(place.exists() for place in _places())


def executable() -> str:
    """dbt of the project's transform/.venv, else of this repository's. Raises SettingError if there is none."""
    if found := next((place for place in _places() if place.exists()), None):
        return str(found)
    raise SettingError(f"dbt is not installed: there is no {_places()[-1]}. Install it: make transform/.venv/ready")


def _places() -> list[Path]:
    return [folder / "transform/.venv/bin/dbt" for folder in (root(), REPOSITORY)]


@contextlib.contextmanager
def locked_date(schema: str) -> Iterator[BuildDate]:
    """The date of this run; until the end of the block no other run changes the schemas of this SCHEMA."""
    text = os.environ.get("EXTRACTED_AT")
    requested = None if text is None else parse_date(text, "EXTRACTED_AT", "; leave it unset for the newest loaded one")
    with contextlib.closing(connect()) as connection:
        lock = SchemaLock(connection, lambda: [schema], logger, "transform")
        if not lock.acquire(LOCK_TIMEOUT):
            raise WarehouseError(f"Timed out after {LOCK_TIMEOUT} s waiting for another transform of schema {schema}: "
                                 f"{lock.holder()}. Nothing was built. Run again when it has ended.")
        with connection.cursor() as cursor:
            date = build_date(LoadHistory(cursor, f"{schema}_history"), requested)
        yield date


def _announce(date: BuildDate) -> None:
    where = f"older than the newest loaded one ({date.newest}): into schemas that end in {date.suffix}" if (
        date.suffix) else "the newest loaded date"
    logger.info("%s, %s.", date.day, where)


def _variables() -> dict[str, str]:
    """What dbt is told by variables, unless the caller did."""
    project = root() / "transform"
    profiles = project if (project / "profiles.yml").exists() else REPOSITORY / "transform"
    schema = settings().get("SCHEMA") or "public"
    made = root() / ".meltano" / "transform" / ("" if schema == "public" else quote(f"schema={schema}", safe="="))
    values = {
        "DBT_PROJECT_DIR": project, "DBT_PROFILES_DIR": profiles, "DBT_TARGET_PATH": made / "target",
        "DBT_LOG_PATH": made / "logs", "DBT_USE_COLORS": sys.stdout.isatty(), "DBT_VERSION_CHECK": False,
        "DBT_SEND_ANONYMOUS_USAGE_STATS": False, "TRANSFORM_DATE": "", "TRANSFORM_SUFFIX": "",
    }
    found = {name: str(value) for name, value in values.items()} | os.environ
    mode = settings().get("TARGET_POSTGRES_SSLMODE", "")
    if mode.startswith("verify-"):
        variable = "TARGET_POSTGRES_SSLROOTCERT"
        found[variable] = certificate_authority(mode, variable, settings())
    return found


def _call(command: Sequence[str], variables: Mapping[str, str], again: str) -> None:
    """Run dbt. Raises TransformError if it fails."""
    results = Path(variables["DBT_TARGET_PATH"], "run_results.json")
    results.unlink(missing_ok=True)
    status, said = process.run(command, root(), variables)
    if status:
        said = said.rpartition("Encountered an error: ")[2]
        why = failures(results) or f"dbt ended with exit status {status}: {said}."
        if "permission denied for" in why:
            why += " Rights that the models need: docs/how-to/transform.md#rights."
        raise TransformError(f"{why} Correct the data or the models, then run: {again}")


def _publish(target: Path) -> None:
    """Copy the documentation, one file, to where people look."""
    page = results_folder() / "transform" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_bytes((target / "static_index.html").read_bytes())
    logger.info("Documentation of the models: %s", page)
