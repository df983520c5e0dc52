"""What is in a landing zone, by key, read and written without the product's code: in a folder, or in a store."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from landing.storage.base import Storage
from landing.storage.local import LocalStorage
from stores import BUCKET, Store


class Landed(Protocol):
    """A landing root; keys are relative to it."""

    root: str  # as LANDING_ROOT has it
    variables: dict[str, str]  # by which the product reaches it
    locks: bool  # writers of a date wait for each other

    def keys(self, prefix: str = "") -> list[str]: ...

    def read(self, key: str) -> bytes: ...

    def write(self, key: str, content: bytes) -> None: ...

    def storage(self) -> Storage:
        """As the product sees it, from this process."""


class Folder:
    """In the folder `output` of a project."""

    root = "output"
    locks = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.variables: dict[str, str] = {}

    def keys(self, prefix: str = "") -> list[str]:
        start = self.path / prefix.rpartition("/")[0]
        found = (str(path.relative_to(self.path)) for path in start.rglob("*") if path.is_file())
        return sorted(key for key in found if key.startswith(prefix))

    def read(self, key: str) -> bytes:
        return (self.path / key).read_bytes()

    def write(self, key: str, content: bytes) -> None:
        (self.path / key).write_bytes(content)

    def storage(self) -> Storage:
        return LocalStorage(self.path)


class InStore:
    """Below a prefix of a store's bucket."""

    locks = False

    def __init__(self, store: Store, prefix: str) -> None:
        self._store, self.prefix = store, prefix
        self.root, self.variables = store.url(prefix), store.environment()

    def keys(self, prefix: str = "") -> list[str]:
        return [key.removeprefix(f"{self.prefix}/") for key in self._store.keys(f"{self.prefix}/{prefix}")]

    def read(self, key: str) -> bytes:
        return self._store.read(f"{self.prefix}/{key}")

    def write(self, key: str, content: bytes) -> None:
        self._store.put(f"{self.prefix}/{key}", content)

    def storage(self) -> Storage:
        from landing.storage.object_store import ObjectStorage
        from landing.storage.stores import Bucket

        return ObjectStorage(Bucket(self._store.scheme, BUCKET, self.prefix, self.variables))

    def remove(self) -> None:
        for key in self.keys():
            self._store.delete(f"{self.prefix}/{key}")
