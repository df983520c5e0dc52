"""From a landing root, or a URL in a BATCH message, to the storage or the file that it names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

from landing.core.settings import BUCKET
from landing.storage import local
from landing.storage.base import Object, Storage
from landing.storage.local import LocalStorage
from landing.storage.stores import Bucket, is_url

Root = Path | str  # a folder, or the URL of a bucket and a prefix


def storage(root: Root) -> Storage:
    """The storage at a root. Raises SettingError if a store cannot be opened with these variables."""
    if not is_url(str(root)):
        return LocalStorage(Path(root))
    from landing.storage.object_store import ObjectStorage  # here: a folder needs none

    return ObjectStorage(Bucket.of(str(root)))


class Files:
    """The files that URLs name; each bucket is opened once."""

    def __init__(self) -> None:
        self._buckets: dict[str, Storage] = {}

    def at(self, url: str) -> Object:
        """The file that a URL names."""
        found = BUCKET.fullmatch(url)
        if found is None:
            return local.at(Path(unquote(urlparse(url).path)))
        bucket = f"{found[1]}://{found[2]}"
        if bucket not in self._buckets:
            self._buckets[bucket] = storage(bucket)
        return Object(self._buckets[bucket], unquote(found[3] or ""))
