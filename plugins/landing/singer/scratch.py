"""What our plugins say to each other in Singer's own messages.

SCHEMA carries `x-landing` beside `properties`: which table of which source this is, what it refers to, the file of its
bad rows where it has some and, when it comes out of the landing zone, of which date and run.

BATCH has the encoding `csv`: files in the one dialect (dialect.py).

STATE, the last one, carries `landing`: each stream with its rows, and bytes and SHA-256 of its files. A target sees
only the end of its input when a tap dies, and cannot tell it from success; with this message it can. No proof, no
commit.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from landing.storage.base import Prefix
from landing.storage.local import LocalStorage

FOLDERS: set[str] = set()  # what a signal's end, which runs no clean-up of the main thread, has to remove


def scratch_prefix() -> Prefix:
    """A place for files that go when the process does."""
    folder = tempfile.mkdtemp(prefix="landing-")
    FOLDERS.add(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Prefix(LocalStorage(Path(folder)), "")


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A temporary folder that goes at the end, or when a signal ends the process."""
    with tempfile.TemporaryDirectory(prefix="landing-") as folder:
        FOLDERS.add(folder)
        yield folder
    FOLDERS.discard(folder)
