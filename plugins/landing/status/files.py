"""Files that other programs read while they are replaced: a page, metrics."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file atomically, by a temporary file in its folder: its readers see the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.touch(mode)
        temporary.write_bytes(text.encode(errors="backslashreplace"))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
