"""Moves a file of others to another place: never over another file, and only if it is still the one that was read.

A rename where both are in one file system; else a copy, its size checked, and then a deletion. Another call completes
one that was killed, whatever it had done by then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from landing.storage.base import Object
from landing.storage.finding import local_file, local_path
from landing.storage.hashing import BUFFER
from landing.storage.local import make_folder, sync

COPYING = ".copying"  # ends the hidden name of a copy until it is whole
AT_FDCWD, RENAME_NOREPLACE = -100, 1  # of Linux's renameat2


class ReplacedError(Exception):
    """Raised if a file is no longer the one that was to be moved. It stays where it is."""


def move(source: Object, version: str, target: Object, run_id: str) -> None:
    """Move a file.

    Args:
        source: From where.
        version: Object.version() of the source when it was read.
        target: To where, a name that was free; its folder is made.
        run_id: Tells this move from others to the same name.

    Raises:
        ReplacedError: The source has another version, or is gone.
        FileExistsError: Another file is at the target.
        OSError: The source or the target cannot be read or written.
    """
    here, there = local_path(source), local_path(target)
    if source.version() != version:
        if target.size() is None:
            raise ReplacedError
        return  # a killed call moved it; what is there now came later
    if target.size() is not None:
        if _digest(source) != _digest(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    elif here and there and _renamed(here, there, version):
        return
    else:
        _copy(source, target, run_id)
        if source.version() != version:
            target.delete()
    if source.version() != version:
        raise ReplacedError
    source.delete()


def _renamed(here: Path, there: Path, version: str) -> bool:
    """Rename a file, and back if it is another one by then; False between file systems."""
    make_folder(there.parent)
    try:
        _rename(here, there)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise
    if local_file(there).version() != version:
        _rename(there, here)
        raise ReplacedError
    _durable(there.parent)
    _durable(here.parent)
    return True


def _rename(old: Path, new: Path) -> None:
    """Rename, never over another file where the system can promise that. Raises FileExistsError."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call and call(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), RENAME_NOREPLACE) == 0:
        return
    failed = ctypes.get_errno() if call else errno.ENOSYS
    if failed not in (errno.EINVAL, errno.ENOSYS):  # else the file system, or the system, does not know it
        raise OSError(failed, os.strerror(failed), str(old))
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
    os.rename(old, new)


def _durable(folder: Path) -> None:
    with contextlib.suppress(PermissionError):  # a folder may be writable and not readable
        sync(folder)


def _copy(source: Object, target: Object, run_id: str) -> None:
    there = local_path(target)
    if there:
        make_folder(there.parent)
        copy = there.with_name(f".{there.name}.{run_id}{COPYING}")
        with source.open() as read, copy.open("wb") as file:
            shutil.copyfileobj(read, file, BUFFER)
        sync(copy)
        _rename(copy, there)
        _durable(there.parent)
    elif source.storage is target.storage:
        source.storage.copy(source.key, target.key)
    else:
        with source.open() as read, _uploaded(target) as file:
            shutil.copyfileobj(read, file, BUFFER)
    if (size := target.size()) != source.size():
        target.delete()
        raise OSError(errno.EIO, f"the copy has {size} bytes", str(target))


@contextlib.contextmanager
def _uploaded(target: Object) -> Iterator[object]:
    """A new object; nothing is left of it on a failure."""
    file = target.storage.create(target.key)
    try:
        yield file
        file.close()
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()  # it may publish what was written so far
        with contextlib.suppress(OSError):
            target.delete()
        raise


def _digest(file: Object) -> bytes:
    digest, buffer = hashlib.sha256(), bytearray(BUFFER)
    with file.open() as read:
        while count := read.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.digest()
