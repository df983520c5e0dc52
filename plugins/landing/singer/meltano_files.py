"""Private copies of files that Meltano shares between all runs of a plugin.

Meltano writes the settings of each run to a path of their own, but catalog, state and logging configuration to the same
paths in every run. When two runs of a plugin overlap, one may read the other's catalog, a part of it, or none. So
discovery writes the run's id into the catalog, and a sync accepts no other; and it works with a private copy, since the
shared file may change at any time.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping, MutableSequence, Sequence
from pathlib import Path
from typing import Any

from landing.core.errors import CatalogError

RUN_KEY = "landing-run"  # in a catalog
CONFIG = re.compile(r"(?:tap|target)\.([0-9a-f-]{36})\.config\.json")
LOGGING = "SINGER_SDK_LOG_CONFIG"
TIMEOUT = 2.0  # seconds for another run to finish writing the logging configuration
_copies = contextlib.ExitStack()  # open until the process ends
atexit.register(_copies.close)

THEN = ('Nothing was landed or loaded. Run again. To run one plugin twice at the same time, give each run a folder of '
        'its own: MELTANO_SYS_DIR_ROOT="$(mktemp -d)" meltano run …')


def run_of(arguments: Sequence[str]) -> str | None:
    """The id of the Meltano run that passed these arguments, or None."""
    path = _value(arguments, "--config")
    found = CONFIG.fullmatch(path.name) if path and path.parent.parent.name == "run" else None
    return found and found[1]


def with_run_id(catalog: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """A discovered catalog with the id of this run."""
    run = run_of(arguments)
    return {**catalog, RUN_KEY: run} if run else dict(catalog)


def copy_files(arguments: MutableSequence[str]) -> None:
    """Replace catalog and state in `arguments` by private copies.

    Meltano discovers nothing for `--about` and `--test`, but passes the catalog of whichever run was last: that is left
    out. Raises CatalogError if the catalog of a sync is not that of this run.
    """
    run = run_of(arguments)
    if run is None:
        return
    for option in ("--catalog", "--state"):
        if (path := _value(arguments, option)) and _asks(arguments) and not _custom():
            place = arguments.index(option)
            del arguments[place : place + 2]
        elif path:
            content = _content(path)
            if option == "--catalog":
                _require_own(content, run, path)
            arguments[arguments.index(option) + 1] = _copy(content)


def copy_logging() -> None:
    """Use a private copy of the logging configuration, or the SDK's default.

    Every run writes the same content, so an incomplete file is read again until it is complete.
    """
    path = Path(os.environ.get(LOGGING, ""))
    deadline = time.monotonic() + TIMEOUT
    while path.is_file() and time.monotonic() < deadline:
        try:
            os.environ[LOGGING] = _copy(_content(path))
            return
        except CatalogError:
            time.sleep(0.02)
    os.environ.pop(LOGGING, None)


def require_catalog(arguments: Sequence[str]) -> None:
    """Raise CatalogError if Meltano starts a sync without a catalog: it found the file empty."""
    if run_of(arguments) and not (_asks(arguments) or {"--catalog", "--discover"} & {*arguments}):
        raise CatalogError(f"Meltano passed no catalog to this run: another run had emptied the file. {THEN}")


def _require_own(catalog: Any, run: str, path: Path) -> None:
    """A catalog without a run's id was written by a person; so was one that `catalog` names in meltano.yml."""
    if not _custom() and isinstance(catalog, dict) and catalog.get(RUN_KEY, run) != run:
        raise CatalogError(f"{path} is the catalog of another run, which replaced that of this one. {THEN}")


def _custom() -> bool:
    """Whether meltano.yml names a catalog."""
    return bool(os.environ.get("MELTANO_EXTRACT__CATALOG"))


def _asks(arguments: Sequence[str]) -> bool:
    """Whether the plugin is asked about itself or its connection, and syncs nothing."""
    return any(one.partition("=")[0] in ("--about", "--test") for one in arguments)


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError) as error:
        what = "is gone" if isinstance(error, FileNotFoundError) else "is not valid JSON"
        raise CatalogError(f"{path} {what}: another run is writing it. {THEN}") from None


def _copy(content: Any) -> str:
    """The path of an unlinked copy, which disappears with the process."""
    file = _copies.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))  # noqa: SIM115
    json.dump(content, file)
    file.seek(0)
    return f"/dev/fd/{file.fileno()}"


def _value(arguments: Sequence[str], option: str) -> Path | None:
    if option not in arguments[:-1]:
        return None
    return Path(arguments[arguments.index(option) + 1])
