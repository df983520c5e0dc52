"""An object store as storage: S3, Google Cloud Storage, Azure Blob Storage.

Nothing can be renamed or locked there. Files are written under their final, run-named keys, which nobody reads until a
manifest lists them; the manifest's conditional put is the commit, and tells a writer of any other that came before it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

import obstore
from obstore import Bytes, exceptions

from landing.core.errors import ConflictError, UnknownOutcomeError, ZoneError
from landing.storage.stores import VARIABLES, Bucket, first_line
from landing.storage.transfer import FIRST, PART, PARTS, Download, Upload

CONFLICTS = (exceptions.AlreadyExistsError, exceptions.PreconditionError)
NOT_THERE = (FileNotFoundError, exceptions.NotFoundError)
DENIED = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
NO_CREDENTIALS = ("169.254.169.254", "metadata.google", "MSI", "could not get credentials", "credentials.json")
NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")
SETTLE = 60.0  # seconds until a put without an answer is given up
TRIES = 5  # of a read whose body was cut
PAUSE = 0.2  # seconds, doubled with each try
COPIED_BY_STORE = 4 << 30  # bytes; S3 copies no object of more than 5 GiB in one request
REQUESTS = 16  # at once, where many objects are looked at
READABLE = "/=@:+,~-_."  # in URLs


class ObjectStorage:
    """Objects below a prefix of a bucket; see base.Storage for what each method promises."""

    in_place = True

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        prefix = f"{bucket.prefix}/" if bucket.prefix else ""
        self._urls = f"{bucket.scheme}://{bucket.name}/{quote(prefix, safe=READABLE)}"  # before the key
        self._store, self._once = bucket.open(), bucket.open(retry=False)
        self._created: set[str] = set()
        self._sizes: dict[str, dict[str, int]] = {}  # of finished files by prefix: they never change
        self._safe = False

    def __reduce__(self) -> tuple[type[ObjectStorage], tuple[Bucket]]:
        """Pickled for another process, which opens the bucket itself."""
        return ObjectStorage, (self.bucket,)

    def describe(self, key: str = "") -> str:
        return f"{self.bucket.url}/{key}".rstrip("/")

    def url(self, key: str) -> str:
        return self._urls + quote(key, safe=READABLE)

    def key(self, url: str) -> str | None:
        return unquote(url.removeprefix(self._urls)) if url.startswith(self._urls) else None

    # Write

    def create(self, key: str) -> io.RawIOBase:
        if key in self._created:
            raise FileExistsError(f"{self.describe(key)} exists already")
        self._created.add(key)
        writer = obstore.open_writer(self._store, key, buffer_size=PART, max_concurrency=PARTS)
        return Upload(writer, partial(self._checked, key), partial(self.size, key))

    def move(self, old: str, new: str) -> None:
        self.copy(old, new)
        self.delete(old, "")

    def copy(self, old: str, new: str) -> None:
        if (size := self.size(old)) is None:
            raise FileNotFoundError(errno.ENOENT, "no such object", self.describe(old))
        if self.size(new) is not None:
            raise FileExistsError(f"{self.describe(new)} exists already")
        if size <= COPIED_BY_STORE:
            self._checked(new, obstore.copy, self._store, old, new)
            return
        try:
            with self.open(old) as source, self.create(new) as target:
                while chunk := source.read(PART):
                    target.write(chunk)
        except BaseException:
            self.delete(new, "")  # half of it
            raise

    def put(self, key: str, content: bytes, scratch: str, expected: str | None,
            point: AbstractContextManager[None]) -> None:
        with point:
            self._put(key, content, expected)

    def _put(self, key: str, content: bytes, expected: str | None) -> None:
        """Put until the store has said for certain whether this content is there.

        A request without an answer may have been carried out, or still be under way: it is sent again, under the same
        condition, and then a refusal may be of our own making.
        """
        deadline, pause, lost = time.monotonic() + SETTLE, PAUSE, False
        mode = "create" if expected is None else json.loads(expected)
        while True:
            try:
                obstore.put(self._once, key, content, mode=mode)
                return
            except (*CONFLICTS, *NOT_THERE, *DENIED) as error:
                cause, refused = self._refusal(key, error), True
                if not lost and (isinstance(error, DENIED) or cause.errno == errno.EIO):
                    raise cause from None
            except exceptions.BaseError as error:
                cause, refused, lost = self._refusal(key, error), False, True
            try:
                if self._holds(key, content):
                    return
                if refused and self.version(key) != expected:
                    raise self._conflict(key, lost=lost)
            except OSError:
                lost = True
            if time.monotonic() > deadline:
                raise UnknownOutcomeError(f"{self.describe(key)}: the store did not say within {SETTLE:g} s whether it "
                                          f"was written ({cause.strerror}).")
            time.sleep(pause * (0.5 + random.random()))
            pause = min(2 * pause, 5.0)

    def _holds(self, key: str, content: bytes) -> bool:
        try:
            return bytes(self._read(key)[0]) == content
        except FileNotFoundError:
            return False

    def _conflict(self, key: str, *, lost: bool) -> ZoneError:
        """Somebody else's content is there; `lost`: ours may have been before it, so nothing may be tried again."""
        where = self.describe(key)
        if lost:
            return UnknownOutcomeError(f"{where}: the store gave no answer to this run's put, and then it was another "
                                       "run's, whose rows are landed.")
        return ConflictError(f"{where} was replaced by another run at the same time. Nothing was committed. Run again.")

    def flush(self, prefix: str) -> None:
        """Nothing to do: what a store has answered is durable."""

    def append(self, key: str, content: bytes, writer: str) -> None:
        """Nothing can be appended to: each writer has an object of its own below the key."""
        own = f"{key}/{writer}.jsonl"
        try:
            before = bytes(self._read(own)[0])
        except FileNotFoundError:
            before = b""
        self._checked(own, obstore.put, self._store, own, before + content, use_multipart=False)

    def delete(self, key: str, up_to: str) -> None:
        self._created.discard(key)
        with contextlib.suppress(FileNotFoundError):
            self._checked(key, obstore.delete, self._store, key)

    def delete_all(self, prefix: str, *, ignore_errors: bool = False) -> None:
        with contextlib.suppress(*([OSError] if ignore_errors else [])):
            self.delete_each(key for key, _, _ in self._below(prefix))

    def delete_each(self, keys: Iterable[str]) -> None:
        """Delete many objects in few requests."""
        if found := [*keys]:
            with contextlib.suppress(FileNotFoundError):
                self._checked(found[0], obstore.delete, self._store, found)

    # Read

    def open(self, key: str) -> io.RawIOBase:
        try:
            first, meta = self._read(key, (0, FIRST))
        except FileNotFoundError:
            raise
        except OSError:
            if self.size(key) != 0:  # a range of an empty object is refused
                raise
            return io.BytesIO()
        tag = meta["e_tag"]
        return Download(first, meta["size"], lambda start, end: self._read(key, (start, end), tag)[0])

    def read(self, key: str, limit: int) -> bytes:
        content, meta = self._read(key, (0, limit)) if limit else self._read(key)
        if meta["size"] > limit:
            raise ValueError(f"{meta['size']:,} bytes; expected at most {limit:,}")
        return bytes(content)

    def read_all(self, key: str, limit: int) -> bytes:
        found = sorted(self._below(key))
        if not found:
            raise FileNotFoundError(errno.ENOENT, "no such object", self.describe(key))
        if (size := sum(size for _, size, _ in found)) > limit:
            raise ValueError(f"{size:,} bytes; expected at most {limit:,}")
        return b"".join(self._many(lambda one: self._read(one)[0], [key for key, _, _ in found]))

    def _read(self, key: str, bounds: tuple[int, int] | None = None, tag: str | None = None) -> tuple[Bytes, Any]:
        """Bytes of an object, of the version `tag`, and what is known of it. A body that was cut is read again."""
        options = {name: value for name, value in (("range", bounds), ("if_match", tag)) if value is not None}

        def fetch() -> tuple[Bytes, Any]:
            found = obstore.get(self._store, key, options=options)
            content = found.bytes()  # the library's own buffer: a range is held once
            if bounds and len(content) != min(bounds[1], found.meta["size"]) - bounds[0]:
                raise exceptions.GenericError(f"expected bytes {bounds}, received {len(content)}")
            return content, found.meta

        return self._whole(key, fetch)

    def _whole(self, key: str, call: Callable[[], Any]) -> Any:
        """What a call reads. The library repeats requests without an answer, and not those whose answer was cut."""
        for tried in range(TRIES):
            try:
                return call()
            except (*NOT_THERE, *CONFLICTS, *DENIED) as error:
                raise self._refusal(key, error) from None
            except exceptions.BaseError as error:
                if tried + 1 == TRIES:
                    raise self._refusal(key, error) from None
            time.sleep(PAUSE * 2**tried)
        raise AssertionError

    def size(self, key: str, below: str = "") -> int | None:
        if below:
            if not key.startswith(f"{below}/") or ".." in key.split("/"):
                raise ValueError("outside of its folder")
            if key not in self._sizes.get(below, {}):
                self._sizes[below] = {one: size for one, size, _ in self._below(below)}
            return self._sizes[below].get(key)
        meta = self._head(key)
        return meta["size"] if meta else None

    def version(self, key: str) -> str | None:
        meta = self._head(key)
        return meta and json.dumps({name: meta[name] for name in ("e_tag", "version") if meta.get(name)})

    def exists(self, key: str) -> bool:
        return self._head(key) is not None or bool(self._below(key))

    def existing(self, keys: Iterable[str]) -> list[bool]:
        return self._many(lambda key: self._head(key) is not None, keys)

    def files(self, prefix: str) -> list[str]:
        return sorted(one["path"] for one in self._level(prefix)["objects"])

    def prefixes(self, prefix: str, *, links: bool = True) -> list[str]:
        return sorted(self._level(prefix)["common_prefixes"])

    def walk(self, prefix: str) -> list[str]:
        return sorted(key for key, _, _ in self._below(prefix))

    def changed(self, prefix: str) -> float:
        return max((changed for _, _, changed in self._at(prefix)), default=0.0)

    def bytes(self, prefix: str) -> int:
        return sum(size for _, size, _ in self._at(prefix))

    def free(self) -> int:
        return 1 << 62

    def _level(self, prefix: str) -> Any:
        return self._whole(prefix, lambda: obstore.list_with_delimiter(self._store, prefix or None))

    def _at(self, prefix: str) -> list[tuple[str, int, float]]:
        """Of the object of this key and all below it: key, size, time of its last change."""
        own = self._head(prefix)
        return [*([_facts(own)] if own else []), *self._below(prefix)]

    def _below(self, prefix: str) -> list[tuple[str, int, float]]:
        return self._whole(prefix, lambda: [_facts(one) for page in obstore.list(self._store, prefix or None)
                                            for one in page])

    def _head(self, key: str) -> Any:
        try:
            return self._checked(key, obstore.head, self._store, key)
        except FileNotFoundError:
            return None

    def _many(self, call: Callable[[str], Any], keys: Iterable[str]) -> list[Any]:
        with ThreadPoolExecutor(REQUESTS, "requests") as requests:
            return [*requests.map(call, keys)]

    # Coordinate

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[NoLock]:
        yield NoLock()

    def claim(self, prefix: str) -> ObjectClaim:
        key = f"{prefix}/claim"
        try:
            self._put(key, f"{time.time_ns()}-{random.random()}".encode(), None)
        except (ConflictError, UnknownOutcomeError):
            raise BlockingIOError(errno.EAGAIN, "it exists already", self.describe(key)) from None
        return ObjectClaim()

    def require_conditions(self, scratch: str) -> None:
        for tried in range(0 if self._safe else TRIES):
            try:
                if self._honours_conditions(f"{scratch}-{tried}"):  # another key: a lost answer says nothing of one
                    self._safe = True
                    return
                found = self._unsafe("replace")
            except exceptions.BaseError as error:
                found = ZoneError(f"{self.describe()} cannot be written to: {self._refusal(scratch, error).strerror}. "
                                  "Nothing was committed. Correct that, and run again.")
                if isinstance(error, DENIED):
                    break
            time.sleep(PAUSE * 2**tried)
        if not self._safe:
            raise found from None

    def _honours_conditions(self, key: str) -> bool:
        """False if it refuses a replacement that it has to accept; raises ZoneError if it accepts one of the others."""
        try:
            first = obstore.put(self._store, key, b"1", mode="overwrite")
            version = {name: first[name] for name in ("e_tag", "version") if first.get(name)}
            if self._accepts(key, b"2", "create"):
                raise self._unsafe("create")
            if not version or not self._accepts(key, b"3", version):
                return False
            if self._accepts(key, b"4", version):
                raise self._unsafe("replace")
            return True
        finally:
            with contextlib.suppress(OSError):
                self.delete(key, "")

    def _accepts(self, key: str, content: bytes, mode: Any) -> bool:
        try:
            obstore.put(self._once, key, content, mode=mode)
        except CONFLICTS:
            return False
        return True

    def _unsafe(self, what: str) -> ZoneError:
        how = ("created an object that was there already" if what == "create" else
               "did not replace an object by its version alone")
        return ZoneError(
            f"{self.describe()}: this store ignores conditions: it {how}. Two runs could overwrite each other's "
            "commits, so nothing is landed here. Use a store that honours If-None-Match and If-Match (S3, Google Cloud "
            "Storage, Azure Blob Storage, and servers that say so), or a folder, as LANDING_ROOT.")

    # Errors

    def _checked(self, key: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call the library; its errors, of a writer OSErrors without a number, become OSErrors that name the object."""
        try:
            return call(*arguments, **options)
        except (exceptions.BaseError, OSError) as error:
            raise self._refusal(key, error) from None

    def _refusal(self, key: str, error: Exception) -> OSError:
        text = str(error)
        if any(word in text for word in NO_BUCKET):
            return OSError(errno.EIO, f"{self.bucket.scheme}://{self.bucket.name} does not exist", self.describe(key))
        if isinstance(error, NOT_THERE):
            return FileNotFoundError(errno.ENOENT, "no such object", self.describe(key))
        if isinstance(error, CONFLICTS):
            return OSError(errno.ESTALE, "it was replaced while it was read", self.describe(key))
        if isinstance(error, DENIED):
            reason = f"{self.bucket.service} denies access ({first_line(error)})"
            return PermissionError(errno.EACCES, reason, self.describe(key))
        reason = first_line(error)
        if any(word in text for word in NO_CREDENTIALS):
            reason = (f"no credentials for {self.bucket.service}: none of its variables gives any "
                      f"({', '.join(VARIABLES[self.bucket.scheme][:2])}, …), and this machine has none of its own "
                      f"({reason})")
        return OSError(errno.EIO, reason, self.describe(key))


def _facts(meta: Any) -> tuple[str, int, float]:
    return meta["path"], meta["size"], meta["last_modified"].timestamp()


class NoLock:
    """What a store has for a lock: the manifest's conditional put does without one."""

    def remove(self) -> None:
        """Nothing is left behind."""


class ObjectClaim:
    """An object that nobody else can create again: it outlives the process, as the run that it claims happens once."""

    def release(self) -> None:
        """Its run's work area is removed with it."""
