"""Files of the landing zone: hashed as they stream, compressed where their name says so.

Rows, bytes and SHA-256 are always of what is in a file, never of its compressed form: a date is the same date however
it is stored, and what is proved is the rows.
"""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import Any

SUFFIXES = {"none": ".csv", "gzip": ".csv.gz", "zstd": ".csv.zst"}  # by compression
GZIP_LEVEL = 1  # the fastest: an extract waits for it


def suffix(path: Path) -> str:
    """`.csv` or `.jsonl`, and behind it `.gz` or `.zst` where it is compressed."""
    return re.search(r"\.(csv|jsonl)(\.gz|\.zst)?$", path.name)[0]


def compressed(path: Path) -> bool:
    """Whether a file's name says so."""
    return path.suffix in (".gz", ".zst")


def _open(path: Path | str, mode: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """A file of bytes, compressed by its name, and what it raises if it is damaged; `mode` is `rb`, `wb` or `xb`."""
    if str(path).endswith(".gz"):
        return gzip.GzipFile(path, mode, GZIP_LEVEL, mtime=0), (EOFError, zlib.error, gzip.BadGzipFile)
    if str(path).endswith(".zst"):
        import zstandard  # here: few need it

        return zstandard.open(path, mode), (zstandard.ZstdError,)
    return open(path, mode, buffering=0), ()
