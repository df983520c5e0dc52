"""Temporary folders that are removed when the process ends, by a signal too."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from landing.storage.base import Prefix
from landing.storage.local import LocalStorage

FOLDERS: set[str] = set()  # for the signal thread, which ends the process without the main thread's clean-up


def scratch_prefix() -> Prefix:
    """A temporary folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="landing-")
    FOLDERS.add(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Prefix(LocalStorage(Path(folder)), "")


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A temporary folder that is removed at the end of the block, or when a signal ends the process."""
    with tempfile.TemporaryDirectory(prefix="landing-") as folder:
        FOLDERS.add(folder)
        yield folder
    FOLDERS.discard(folder)
