"""Entry points of the plugins: two taps, two targets, and the utility `dbt`."""

from __future__ import annotations

import contextlib
import gc
import importlib.machinery
import importlib.util
import itertools
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


class LazyParamiko:
    """Has paramiko, which the MeltanoLabs plugins import for SSH tunnels, load where a tunnel is opened.

    It takes 0.12 s and 17 MB of a start.
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, _: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != "paramiko" or (spec := importlib.machinery.PathFinder.find_spec(name, path)) is None:
            return None
        spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


@contextlib.contextmanager
def _imports() -> Iterator[None]:
    """Import without garbage collection, and except from it what is imported: it takes a sixth of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def tap_postgres() -> None:
    """PostgreSQL -> Singer. Discovery avoids importing the Singer SDK and SQLAlchemy."""
    with _imports():
        from landing.extract.postgres import discovery
    if (config := discovery.plain_config(sys.argv[1:])) is not None:
        discovery.run(config)
        return
    sys.meta_path.insert(0, LazyParamiko)
    with _imports():
        from landing.extract.postgres.tap import TapPostgres
        from landing.singer import process
        from landing.zone.run_log import log_tap_failure
    process.run(TapPostgres, log_tap_failure(TapPostgres.name))


def tap_csv() -> None:
    """CSV files -> Singer; with the setting `from_landing`, one landed date -> Singer."""
    if _configured(sys.argv[1:], "from_landing"):
        with _imports():
            from landing.load.tap import TapLanding
            from landing.singer import process
        process.run(TapLanding)
    else:
        with _imports():
            from landing.extract.csv.tap import TapCSV
            from landing.singer import process
            from landing.zone.run_log import log_tap_failure
        process.run(TapCSV, log_tap_failure(TapCSV.name))


def target_csv() -> None:
    """Singer -> the landing zone."""
    with _imports():
        from landing.singer import process
        from landing.zone.target import TargetCSV
    process.run(TargetCSV)


def target_postgres() -> None:
    """Singer -> the warehouse."""
    sys.meta_path.insert(0, LazyParamiko)
    with _imports():
        from landing.load.target import TargetPostgres
        from landing.singer import process
    logging.getLogger("sqlalchemy").setLevel(logging.WARNING)
    process.run(TargetPostgres)


def dbt() -> None:
    """dbt, on what is loaded."""
    from landing.transform.dbt import main

    main()


def _configured(arguments: list[str], setting: str) -> bool:
    """A boolean setting, by the last `--config` file that has it."""
    found = False
    for option, value in itertools.pairwise(arguments):
        if option == "--config" and Path(value).is_file():
            found = json.loads(Path(value).read_text("utf-8")).get(setting, found)
    return bool(found)
