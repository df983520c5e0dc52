"""From a URL in a BATCH message to the file that it names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

from landing.storage import local
from landing.storage.base import Object


def at(url: str) -> Object:
    """The file that a URL names; another kind of storage has another scheme."""
    return local.at(Path(unquote(urlparse(url).path)))
