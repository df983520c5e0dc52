"""A local folder as storage: durable by fsync in the right order, exclusive by flock, and without links.

A rename is atomic and not durable: what a rename has to be able to rely on is synced before it, files first, then the
folders that hold their names, up to the root.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from landing.core.errors import ZoneError, named
from landing.storage.base import Object


class LocalStorage:
    """Files below one folder; see base.Storage for what each method promises."""

    in_place = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self._moved: set[Path] = set()  # folders whose new names are not durable yet

    def describe(self, key: str = "") -> str:
        return str(self.root / key)

    def url(self, key: str) -> str:
        return (self.root / key).as_uri()

    def key(self, url: str) -> str | None:
        path, root = Path(unquote(urlparse(url).path)).resolve(), self.root.resolve()
        return str(path.relative_to(root)) if path.is_relative_to(root) else None

    def create(self, key: str) -> io.RawIOBase:
        path = self.root / key
        make_folder(path.parent)
        return open(path, "xb", buffering=0)

    def move(self, old: str, new: str) -> None:
        source, path = self._finished(old, new)
        os.replace(source, path)
        self._moved.add(path.parent)

    def copy(self, old: str, new: str) -> None:
        source, path = self._finished(old, new)
        try:
            os.link(source, path)
        except OSError:  # not every file system has hard links
            shutil.copy(source, path)
            sync(path)
        self._moved.add(path.parent)

    def _finished(self, old: str, new: str) -> tuple[Path, Path]:
        """The paths of a durable file and of its new key, which is free."""
        source, path = self.root / old, self.root / new
        self._refuse_links(path.parent.parent, path.parent)  # a source may be a link to another disk
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise FileExistsError(f"{path} exists already")
        sync(source)
        return source, path

    def put(self, key: str, content: bytes, scratch: str, expected: str | None,
            point: AbstractContextManager[None]) -> None:
        path, temporary = self.root / key, self.root / scratch
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with named(temporary):
            temporary.write_bytes(content)
        sync(temporary)
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in self._to_sync(path.parent):
            sync(folder)
        if (found := self.version(key)) != expected:
            raise ZoneError(f"{path} changed while its lock was held: expected version {expected}, found {found}. "
                            "Nothing was committed. Does another machine write here without locks? Run again.")
        with point:
            os.replace(temporary, path)

    def _to_sync(self, folder: Path) -> list[Path]:
        """Folders whose names the next rename relies on, the lowest first."""
        upward = [*folder.relative_to(self.root).parents]
        moved, self._moved = self._moved, set()
        return [*sorted(one for one in moved - {folder} if one.exists()), folder, *(self.root / one for one in upward)]

    def _refuse_links(self, *folders: Path) -> None:
        for folder in folders:
            if folder != self.root and folder.is_symlink():
                raise ZoneError(f"{folder} is a link, and leads out of the landing zone. Nothing was committed. "
                                "Remove it, and run again.")

    def flush(self, prefix: str) -> None:
        sync(self.root / prefix)

    def append(self, key: str, content: bytes, writer: str) -> None:
        path = self.root / key
        make_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)

    def delete(self, key: str, up_to: str) -> None:
        path, last = self.root / key, self.root / up_to
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds other files
            while (path := path.parent) != last:
                path.rmdir()

    def delete_all(self, prefix: str, *, ignore_errors: bool = False) -> None:
        path = self.root / prefix
        if ignore_errors or path.exists():
            shutil.rmtree(path, ignore_errors)

    def delete_each(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.delete(key, key.rpartition("/")[0])

    def open(self, key: str) -> io.RawIOBase:
        return open(self.root / key, "rb", buffering=0)

    def read(self, key: str, limit: int) -> bytes:
        path = self.root / key
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a regular file")
        if found.st_size > limit:
            raise ValueError(f"{found.st_size:,} bytes; expected at most {limit:,}")
        return path.read_bytes()

    def read_all(self, key: str, limit: int) -> bytes:
        return self.read(key, limit)

    def size(self, key: str, below: str = "") -> int | None:
        path = self.root / key
        if not path.resolve().is_relative_to((self.root / below).resolve()):
            raise ValueError("outside of its folder")
        return path.stat().st_size if path.is_file() else None

    def version(self, key: str) -> str | None:
        try:
            found = (self.root / key).lstat()
        except FileNotFoundError:
            return None
        return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"

    def exists(self, key: str) -> bool:
        try:
            (self.root / key).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # reading it says why that fails
        return True

    def existing(self, keys: Iterable[str]) -> list[bool]:
        return [*map(self.exists, keys)]

    def files(self, prefix: str) -> list[str]:
        return self._keys(prefix, lambda entry: entry.is_file(follow_symlinks=False))

    def prefixes(self, prefix: str, *, links: bool = True) -> list[str]:
        return self._keys(prefix, lambda entry: entry.is_dir(follow_symlinks=links))

    def _keys(self, prefix: str, wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / prefix) as entries:
            return sorted(f"{prefix}/{entry.name}" if prefix else entry.name for entry in entries if wanted(entry))
        return []

    def walk(self, prefix: str) -> list[str]:
        below = [key for one in self.prefixes(prefix, links=False) for key in self.walk(one)]
        return sorted([*self.files(prefix), *below])

    def changed(self, prefix: str) -> float:
        return max((one.st_mtime for one in self._stats(prefix)), default=0.0)

    def bytes(self, prefix: str) -> int:
        return sum(one.st_size for one in self._stats(prefix) if not stat.S_ISDIR(one.st_mode))

    def _stats(self, prefix: str) -> Iterator[os.stat_result]:
        """Of the prefix and everything below; files that go meanwhile are left out."""
        path = self.root / prefix
        for one in (path, *path.rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                yield one.lstat()

    def free(self) -> int:
        return shutil.disk_usage(next(folder for folder in (self.root, *self.root.parents) if folder.exists())).free

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[FileLock]:
        path = self.root / key
        make_folder(path.parent)
        while True:
            with _opened(path) as descriptor:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if _is_at(path, descriptor):  # else a holder before us removed the file
                    yield FileLock(path)
                    return

    def require_conditions(self, scratch: str) -> None:
        """Nothing to find out: a lock keeps writers apart."""

    def claim(self, prefix: str) -> FolderClaim:
        descriptor = os.open(self.root / prefix, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return FolderClaim(descriptor)


class LocalInputs(LocalStorage):
    """Files that others write below a folder: links are followed, also out of it."""

    def size(self, key: str, below: str = "") -> int | None:
        path = self.root / key
        return path.stat().st_size if path.is_file() else None

    def version(self, key: str) -> str | None:
        try:
            found = (self.root / key).stat()
        except FileNotFoundError:
            return None
        return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"


def at(path: Path) -> Object:
    """A local file as an object."""
    return Object(LocalStorage(path.parent), path.name)


@dataclass(frozen=True)
class FileLock:
    """A lock by flock on a file."""

    path: Path

    def remove(self) -> None:
        self.path.unlink()


@dataclass(frozen=True)
class FolderClaim:
    """A lock by flock on a folder: the system releases it when the process ends."""

    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, their names durable: the landing root may be among them."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        with contextlib.suppress(PermissionError):  # a folder may be writable and not readable
            sync(one.parent)


def sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with named(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A lock's file; a link to another file is refused."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise ZoneError(f"{path} cannot be opened ({error.strerror}). Nothing was changed. Correct that, and run again."
                        ) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
