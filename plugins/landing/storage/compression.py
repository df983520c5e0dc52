"""Compression of landed files, by their names."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from typing import Any

SUFFIXES = {"none": ".csv", "gzip": ".csv.gz", "zstd": ".csv.zst"}  # by compression
GZIP_LEVEL = 1  # the fastest: an extract waits for it


def suffix(name: str) -> str:
    """`.csv` or `.jsonl`, and behind it `.gz` or `.zst` where the file is compressed."""
    return re.search(r"\.(csv|jsonl)(\.gz|\.zst)?$", name)[0]


def compressed(name: str) -> bool:
    """Whether a file is compressed."""
    return name.endswith((".gz", ".zst"))


def opened(file: io.RawIOBase, name: str, *, writes: bool) -> tuple[Any, tuple[type[Exception], ...]]:
    """The content of an open file, and the errors that reading it raises if it is damaged.

    Closing the content closes the file. The compressors ignore a short write, so they write through a buffer, which
    repeats or raises.
    """
    if writes and compressed(name):
        file = io.BufferedWriter(file)
    if name.endswith(".gz"):
        return _Gzip(file, writes=writes), (EOFError, zlib.error, gzip.BadGzipFile)
    if name.endswith(".zst"):
        import zstandard  # here: few need it

        return zstandard.open(file, "wb" if writes else "rb", closefd=True), (zstandard.ZstdError,)
    return file, ()


class _Gzip(gzip.GzipFile):
    """Closes the file that it is given; without a time or a name in its header, so that equal content is equal."""

    def __init__(self, file: io.RawIOBase, *, writes: bool) -> None:
        super().__init__("", "wb" if writes else "rb", GZIP_LEVEL, file, mtime=0)
        self._stored = file

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._stored.close()
