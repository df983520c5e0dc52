"""Temporary files of tests in memory: most of a test's time is the creation of two databases of 300 files each."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (a file system in memory, where Linux has it)
ENOUGH = 6 << 30  # bytes: all tests at once take about one, unless some fail


def use_memory() -> None:
    """Have this process and its children use it, if it has room and nobody chose another folder by TMPDIR."""
    usable = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
    if "TMPDIR" not in os.environ and usable and shutil.disk_usage(SHARED_MEMORY).free >= ENOUGH:
        os.environ["TMPDIR"] = tempfile.tempdir = str(SHARED_MEMORY)
