"""The one seam for storage: what a landing zone needs of the place where its files are kept.

Keys are relative to the root of the storage, with `/` between their parts. Nothing outside of this package opens,
renames, syncs, locks, lists or stats a landed file; another kind of storage is one more module here.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


class Lock(Protocol):
    """A held lock."""

    def remove(self) -> None:
        """Remove what the lock leaves behind; its holder only."""


class Claim(Protocol):
    """The sole right to a prefix, until it is released or the process ends."""

    def release(self) -> None:
        """Give it up."""


class Storage(Protocol):
    """A place for files. Methods raise OSError for what the place itself refuses.

    Attributes:
        in_place: Whether files are written under their final keys, and the version that put() expects is all that
            keeps two writers apart; else they are written elsewhere and moved, under a lock.
    """

    in_place: bool

    def describe(self, key: str = "") -> str:
        """Where a key is, for messages."""

    def url(self, key: str) -> str:
        """URL of a key, as a BATCH message has it."""

    def key(self, url: str) -> str | None:
        """The key of such a URL; None if it is not below the root."""

    # Write

    def create(self, key: str) -> io.RawIOBase:
        """A new, empty file to write to. Raises FileExistsError."""

    def move(self, old: str, new: str) -> None:
        """Make a finished file durable under its final key. Raises FileExistsError, or ZoneError for a link."""

    def copy(self, old: str, new: str) -> None:
        """Have a finished file under a second key, too, as durable as move() makes it. Raises as move() does.

        Finished files never change, so both keys may share the bytes.
        """

    def put(self, key: str, content: bytes, scratch: str, expected: str | None,
            point: AbstractContextManager[None]) -> None:
        """Replace a small file atomically, all that was moved before being durable.

        Args:
            key: What to replace. The caller holds the lock that guards it.
            content: All of its bytes.
            scratch: A key that may be used until then.
            expected: The version() that it replaces.
            point: Entered around the moment from which others see the new content.

        Raises:
            ZoneError: It is of another version: somebody replaced it without the lock. In place: ConflictError.
            UnknownOutcomeError: In place: the storage did not say whether it was put.
        """

    def flush(self, prefix: str) -> None:
        """Make the latest changes to the names directly below a prefix durable."""

    def append(self, key: str, content: bytes, writer: str) -> None:
        """Add to the end of a log in one write. In place, each `writer` has a file of its own below the key."""

    def delete(self, key: str, up_to: str) -> None:
        """Delete a file, if it is there, and each prefix between it and `up_to` that is empty then."""

    def delete_all(self, prefix: str, *, ignore_errors: bool = False) -> None:
        """Delete everything below a prefix; with `ignore_errors`, as much of it as possible."""

    def delete_each(self, keys: Iterable[str]) -> None:
        """Delete files, those that are there."""

    # Read

    def open(self, key: str) -> io.RawIOBase:
        """A file to read from."""

    def read(self, key: str, limit: int) -> bytes:
        """A whole small file.

        Raises:
            FileNotFoundError: It is not there.
            ValueError: It is not a regular file, or is larger than `limit` bytes; the message says which.
        """

    def read_all(self, key: str, limit: int) -> bytes:
        """A log that append() writes, or that part of it; raises as read() does."""

    def size(self, key: str, below: str = "") -> int | None:
        """Bytes of a file; None if there is none.

        Raises:
            ValueError: The key leads out of the prefix `below`, through a link or `..`.
        """

    def version(self, key: str) -> str | None:
        """Tells one content of a file from another; None if there is none."""

    def exists(self, key: str) -> bool:
        """Whether there is anything under a key, also if it cannot be read."""

    def existing(self, keys: Iterable[str]) -> list[bool]:
        """Whether there is a file under each of these keys."""

    def files(self, prefix: str) -> list[str]:
        """Keys of the files directly below a prefix, in order. Links are left out."""

    def prefixes(self, prefix: str, *, links: bool = True) -> list[str]:
        """Prefixes directly below another, in order. `links`: also those that lead elsewhere."""

    def walk(self, prefix: str) -> list[str]:
        """Keys of all files below a prefix, in order. Links are left out, and not followed."""

    def changed(self, prefix: str) -> float:
        """When anything at or below a prefix last changed, in seconds since 1970; 0 if there is nothing."""

    def bytes(self, prefix: str) -> int:
        """Bytes of all files at or below a prefix."""

    def free(self) -> int:
        """Bytes that can still be written."""

    # Coordinate

    def lock(self, key: str) -> AbstractContextManager[Lock]:
        """Wait for the lock of a key, and hold it."""

    def require_conditions(self, scratch: str) -> None:
        """Refuse a place that would let two commits overwrite each other.

        Args:
            scratch: A key that may be used to find out.

        Raises:
            ZoneError: It ignores the conditions of put(), or cannot be written to.
        """

    def claim(self, prefix: str) -> Claim:
        """Claim a prefix. Raises BlockingIOError if another process holds it, FileNotFoundError if it is not there."""


@dataclass(frozen=True)
class Object:
    """A file in a storage, by its key."""

    storage: Storage
    key: str

    def __str__(self) -> str:
        return self.storage.describe(self.key)

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.key.rpartition("/")[2]

    @property
    def url(self) -> str:
        """As a BATCH message has it."""
        return self.storage.url(self.key)

    def open(self) -> io.RawIOBase:
        """To read from its start."""
        return self.storage.open(self.key)

    def size(self) -> int | None:
        """Bytes as stored; None if it is not there."""
        return self.storage.size(self.key)

    def version(self) -> str | None:
        """Tells one content of it from another; None if it is not there."""
        return self.storage.version(self.key)

    def delete(self) -> None:
        """Delete it, if it is there."""
        self.storage.delete(self.key, self.key.rpartition("/")[0])


@dataclass(frozen=True)
class Prefix:
    """A prefix in a storage, for files that are to be written there."""

    storage: Storage
    key: str

    def __truediv__(self, name: str) -> Object:
        return Object(self.storage, f"{self.key}/{name}" if self.key else name)

    def file(self, table: str, suffix: str, number: int | None = None) -> Object:
        """A file of a table, given by the name of its folder. `number`: which of its chunks, if it has several."""
        return self / f"{table}{'' if number is None else f'-{number:04}'}{suffix}"

    def named(self, table: str, name: str) -> Object:
        """A file of a table by the name that file() gave it."""
        return self / name
