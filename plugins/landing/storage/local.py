"""Files of the landing zone: hashed as they stream, compressed where their name says so.

Rows, bytes and SHA-256 are always of what is in a file, never of its compressed form: a date is the same date however
it is stored, and what is proved is the rows.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def named(path: Path | str) -> Iterator[None]:
    """Have the system's errors name the file: those of one that is open don't."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each with its name on the disk: the landing root may be among them."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        with contextlib.suppress(PermissionError):  # a folder may be written and not read
            sync(one.parent)


def sync(path: Path) -> None:
    """Have a file, or a folder's entries, on the disk and not only in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with named(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
