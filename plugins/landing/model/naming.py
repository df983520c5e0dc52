"""Names in the landing zone: run ids and folders."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Annotated

from msgspec import Meta

from landing.core.dates import now

RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")  # becomes part of file names
RunId = Annotated[str, Meta(pattern=rf"\A{RUN_ID.pattern}\Z")]
UNSAFE = re.compile("[\x00-\x1f\x7f\"#%'*/:=?\\\\{}\\[\\]^]")


def new_run_id() -> str:
    """A unique id that sorts by start time."""
    return f"{now():%Y%m%dT%H%M%S}Z-{secrets.token_hex(4)}"


def short_hash(name: str) -> str:
    """Distinguishes truncated names."""
    return hashlib.sha256(name.encode()).hexdigest()[:10]


def folder_name(stream: str) -> str:
    """`table=<stream>` with unsafe characters as %XX; a name too long for a file system ends in a hash."""
    escaped = UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", stream)
    if len(escaped.encode()) > 200:
        escaped = escaped.encode()[:180].decode(errors="ignore") + "~" + short_hash(stream)
    return f"table={escaped}"
