"""Bytes on their way to and from an object: uploaded in parts, read in ranges, a bounded number of them in memory."""

from __future__ import annotations

import contextlib
import errno
import io
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Buffer

PART = 8 << 20  # bytes of a part
LARGEST = PART * 10_000  # bytes of an object: no store takes more parts
PARTS = 2  # that are sent at once
FIRST = 256 << 10  # bytes of the first range: a header, or a whole small table
RANGE = 4 << 20
AHEAD = 2  # ranges that are read before they are asked for


class Upload(io.RawIOBase):
    """An object that is being written; it comes to be when it is closed, unless a write failed."""

    def __init__(self, writer: Any, checked: Callable[..., Any], stored: Callable[[], int | None]) -> None:
        """Wrap a writer.

        Args:
            writer: The library's.
            checked: `checked(call, *arguments)` makes a call, and translates its errors to OSError.
            stored: Bytes of the object, None if there is none.
        """
        self._writer, self._checked, self._stored = writer, checked, stored
        self._failed, self._size = False, 0

    def writable(self) -> bool:
        return True

    def write(self, chunk: Any) -> int:
        self._failed = True
        if self._size + len(chunk) > LARGEST:
            raise OSError(errno.EFBIG, f"a file in a store has at most {LARGEST / 1e9:.0f} GB. Set `connections: 2` or "
                          "more for tap-postgres, which reads a large table in chunks, or `compression: zstd`")
        self._checked(self._writer.write, bytes(chunk))  # kept until it is sent, and a chunk is a buffer that is reused
        self._failed = False
        self._size += (size := memoryview(chunk).nbytes)
        return size

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Close it; after an error no object comes to be."""
        self._failed = self._failed or kind is not None
        self.close()

    def close(self) -> None:
        if self.closed:
            return
        try:
            if self._failed:
                with contextlib.suppress(Exception):  # the first error is the one to report
                    self._writer.__exit__(OSError, OSError(), None)  # it aborts the upload
            else:
                self._complete()
        finally:
            super().close()

    def _complete(self) -> None:
        """End the upload. An answer that was lost is made up for by the object: nobody else writes one of this key."""
        try:
            self._checked(self._writer.close)
        except OSError as error:
            with contextlib.suppress(OSError):
                if self._stored() == self._size:
                    return
            raise error from None


class Download(io.RawIOBase):
    """An object that is read from its start to its end, all of one version.

    Each range is a request of its own, so a slow reader keeps no connection open, and one that fails is repeated.
    """

    def __init__(self, first: Buffer, size: int, fetch: Callable[[int, int], Buffer]) -> None:
        """`fetch(start, end)` reads a range behind the first; OSError also if the object was replaced meanwhile."""
        self._fetch, self._size = fetch, size
        self._asked = len(first)  # bytes that were asked for
        self._coming: deque[Future[Buffer]] = deque()
        self._range, self._at = memoryview(first), 0
        self._readers: ThreadPoolExecutor | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._at == len(self._range):
            self._range, self._at = memoryview(self._next()), 0
        count = min(len(buffer), len(self._range) - self._at)
        buffer[:count] = self._range[self._at:self._at + count]
        self._at += count
        return count

    def _next(self) -> Buffer:
        if self._readers is None:
            self._readers = ThreadPoolExecutor(AHEAD, "download")
        while self._asked < self._size and len(self._coming) < AHEAD:
            start, self._asked = self._asked, min(self._asked + RANGE, self._size)
            self._coming.append(self._readers.submit(self._fetch, start, self._asked))
        return self._coming.popleft().result() if self._coming else b""

    def close(self) -> None:
        if self._readers:
            self._readers.shutdown(wait=False, cancel_futures=True)
        super().close()
