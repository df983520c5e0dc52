"""Files that Meltano hands to a plugin, by paths that all runs of the plugin share.

Meltano writes the settings of each run to a path of its own, but catalog, state and logging configuration to the same
paths in every run. Where two runs of a plugin overlap, one may read the catalog of the other, half of it, or none. So
discovery marks a catalog with its run, and a sync refuses every other; it works with a private copy, since the shared
file can change until it is read.
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

MARK = "landing-run"
CONFIG = re.compile(r"(?:tap|target)\.([0-9a-f-]{36})\.config\.json")
LOGGING = "SINGER_SDK_LOG_CONFIG"
PATIENCE = 2.0  # seconds for another run to finish writing a file that is the same in every run
_copies = contextlib.ExitStack()  # open as long as this process
atexit.register(_copies.close)

THEN = ('Nothing was landed or loaded. Run again; give each of two runs of one plugin at once a folder of its own by '
        'MELTANO_SYS_DIR_ROOT="$(mktemp -d)" before `meltano run`.')


def run_of(arguments: Sequence[str]) -> str | None:
    """The run of Meltano that gave these arguments, if one did."""
    path = _value(arguments, "--config")
    found = CONFIG.fullmatch(path.name) if path and path.parent.parent.name == "run" else None
    return found and found[1]


def marked(catalog: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """A discovered catalog, with the run that asked for it."""
    run = run_of(arguments)
    return {**catalog, MARK: run} if run else dict(catalog)


def take(arguments: MutableSequence[str]) -> None:
    """Have `arguments` name private copies of catalog and state.

    Raises CatalogError if the catalog is not that of this run.
    """
    run = run_of(arguments)
    if run is None:
        return
    for option in ("--catalog", "--state"):
        if path := _value(arguments, option):
            content = _content(path)
            if option == "--catalog":
                _require_own(content, run, path)
            arguments[arguments.index(option) + 1] = _copy(content)


def take_logging() -> None:
    """Likewise of the logging configuration, for which the SDK has a default.

    It is the same in every run, so half of it will soon be all of it.
    """
    path = Path(os.environ.get(LOGGING, ""))
    deadline = time.monotonic() + PATIENCE
    while path.is_file() and time.monotonic() < deadline:
        try:
            os.environ[LOGGING] = _copy(_content(path))
            return
        except CatalogError:
            time.sleep(0.02)
    os.environ.pop(LOGGING, None)


def require_catalog(arguments: Sequence[str]) -> None:
    """Refuse a sync of Meltano's without a catalog: it found the file empty, and no stream would be selected."""
    if run_of(arguments) and not {"--catalog", "--discover", "--about", "--test"} & {*arguments}:
        raise CatalogError(f"Meltano gave this run no catalog: another run has emptied the file. {THEN}")


def _require_own(catalog: Any, run: str, path: Path) -> None:
    """A catalog without a mark was written by a person; so was one that `catalog` names in meltano.yml."""
    custom = os.environ.get("MELTANO_EXTRACT__CATALOG")
    if not custom and isinstance(catalog, dict) and catalog.get(MARK, run) != run:
        raise CatalogError(f"{path} is the catalog of another run, which replaced that of this one. {THEN}")


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError) as error:
        what = "is gone" if isinstance(error, FileNotFoundError) else "is not valid JSON"
        raise CatalogError(f"{path} {what}: another run is writing it. {THEN}") from None


def _copy(content: Any) -> str:
    """A path of a file that ends with this process, however that ends."""
    file = _copies.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))  # noqa: SIM115
    json.dump(content, file)
    file.seek(0)
    return f"/dev/fd/{file.fileno()}"


def _value(arguments: Sequence[str], option: str) -> Path | None:
    if option not in arguments[:-1]:
        return None
    return Path(arguments[arguments.index(option) + 1])
