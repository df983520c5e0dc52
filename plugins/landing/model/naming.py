"""The landing zone: where things lie, the manifest that makes a date exist, and the commit.

    <root>/source=<source>/extracted_at=<date>/_manifest.json
    <root>/source=<source>/extracted_at=<date>/table=<stream>/<run id>.csv
    <root>/source=<source>/extracted_at=<date>/table=<stream>/_quarantine-<run id>.jsonl    bad rows: see quarantine.py
    <root>/_staging/<run id>/                                               work in progress
    <root>/_attempts/<source>@<date>.jsonl                                  what was tried: see attempts.py

A source's date exists when its manifest does, and holds exactly the files that the manifest lists.
"""

from __future__ import annotations

import hashlib
import re
import secrets

from landing.core.dates import now

RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")  # it becomes a part of names
UNSAFE = re.compile("[\x00-\x1f\x7f\"#%'*/:=?\\\\{}\\[\\]^]")


def new_run_id() -> str:
    """Unique, and sorted by time of start."""
    return f"{now():%Y%m%dT%H%M%S}Z-{secrets.token_hex(4)}"


def short_hash(name: str) -> str:
    """Tells apart names that had to be cut."""
    return hashlib.sha256(name.encode()).hexdigest()[:10]


def folder_name(stream: str) -> str:
    """`table=<stream>`, unsafe characters as %XX; what is too long for a file system ends in a hash instead."""
    escaped = UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", stream)
    if len(escaped.encode()) > 200:
        escaped = escaped.encode()[:180].decode(errors="ignore") + "~" + short_hash(stream)
    return f"table={escaped}"
