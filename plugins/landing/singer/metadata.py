"""What our plugins say to each other in Singer's own messages.

SCHEMA carries `x-landing` beside `properties`: which table of which source this is, what it refers to, the file of its
bad rows where it has some and, when it comes out of the landing zone, of which date and run.

BATCH has the encoding `csv`: files in the one dialect (dialect.py).

STATE, the last one, carries `landing`: each stream with its rows, and bytes and SHA-256 of its files. A target sees
only the end of its input when a tap dies, and cannot tell it from success; with this message it can. No proof, no
commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlparse

METADATA = "x-landing"
ENCODING = "csv"


def unused_name(name: str, taken: Iterable[str]) -> str:
    """`name`, with as many underscores behind it as it takes to differ from those."""
    taken = set(taken)
    while name in taken:
        name += "_"
    return name


def file_of(url: str) -> Path:
    """The path of a file URL in a BATCH message."""
    return Path(unquote(urlparse(url).path))
