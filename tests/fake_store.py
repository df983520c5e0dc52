"""An object store in memory, on the loopback: the XML interface of S3 or of GCS, with their conditional writes.

    python tests/fake_store.py --port 9000 [--dialect gcs] [--bucket landing]

It knows what obstore, boto3 and Go's SDK send: whole and ranged reads, conditions, listings, multipart uploads, copies,
bulk deletes, chunked bodies. A condition and its write are one step under a lock. Bodies are received into the buffer
that is kept, and sent out of it: 1 GB/s and more. Signatures are not checked; paths are /bucket/key.
"""

from __future__ import annotations

import argparse
import io
import itertools
import mmap
import re
import socketserver
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from html import escape, unescape
from http import HTTPStatus
from typing import BinaryIO, NoReturn
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from uuid import uuid4

S3, GCS = "s3", "gcs"
SMALLEST_PART = 5 << 20  # bytes of each part of an upload but the last
HUGE = 4 << 20  # bytes from which a buffer is worth huge pages
PAGE = 1000  # keys of a listing's page
KEPT_HEADER = re.compile("content-type|x-(amz|goog)-meta-.*")
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
generations = itertools.count(int(time.time() * 1e6))


class RefusedError(Exception):
    """An answer that is an error: its status and S3's code for it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Object:
    """Content as it came, in one piece or in an upload's parts; it never changes."""

    pieces: tuple[memoryview, ...]
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = field(default_factory=lambda: f'"{uuid4().hex}"')
    generation: int = field(default_factory=lambda: next(generations))
    changed: float = field(default_factory=time.time)

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces))

    def between(self, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes of a range, piece by piece."""
        for piece in self.pieces:
            if start < len(piece) and stop > 0:
                yield piece[max(start, 0):stop]
            start, stop = start - len(piece), stop - len(piece)


@dataclass
class Upload:
    """A multipart upload that is not complete."""

    key: str
    headers: dict[str, str]
    parts: dict[int, Object] = field(default_factory=dict)


@dataclass
class Bucket:
    """Objects by key, and uploads by their id."""

    objects: dict[str, Object] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)

    def find(self, key: str) -> Object:
        return self.objects.get(key) or refuse(404, "NoSuchKey")

    def upload(self, name: str) -> Upload:
        return self.uploads.get(name) or refuse(404, "NoSuchUpload")


@dataclass
class Request:
    """One request, its body decoded."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: memoryview


@dataclass
class Answer:
    """What is sent back; `length` differs from the body's for HEAD."""

    status: int = 200
    body: Iterable[bytes | memoryview] = ()
    headers: dict[str, object] = field(default_factory=dict)
    length: int | None = None


def refuse(status: int, code: str) -> NoReturn:
    raise RefusedError(status, code)


def xml(text: str, **headers: object) -> Answer:
    return Answer(body=[f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()],
                  headers={"Content-Type": "application/xml", **headers})


def stamp(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03}Z"


class Store:
    """All buckets, and what each kind of request does to them."""

    def __init__(self, dialect: str = S3, buckets: Iterable[str] = ()) -> None:
        self.dialect = dialect
        self.buckets = {name: Bucket() for name in buckets}
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Answer:
        """Carry a request out. Raises RefusedError."""
        name, _, key = request.path.removeprefix("/").partition("/")
        if request.method == "PUT" and not key:
            self.buckets.setdefault(name, Bucket())
            return Answer()
        if not name:
            names = "".join(f"<Bucket><Name>{one}</Name></Bucket>" for one in self.buckets)
            return xml(f"<ListAllMyBucketsResult {NAMESPACE}><Buckets>{names}</Buckets></ListAllMyBucketsResult>")
        bucket = self.buckets.get(name) or refuse(404, "NoSuchBucket")
        work = getattr(self, f"_{request.method.lower()}_{'object' if key else 'bucket'}", None)
        return work(bucket, key, request) if work else refuse(405, "MethodNotAllowed")

    # Buckets

    def _head_bucket(self, *_: object) -> Answer:
        return Answer()

    def _get_bucket(self, bucket: Bucket, _: str, request: Request) -> Answer:
        if "location" in request.query:
            return xml(f"<LocationConstraint {NAMESPACE}/>")
        if "uploads" in request.query:
            found = "".join(f"<Upload><Key>{escape(one.key)}</Key><UploadId>{name}</UploadId></Upload>"
                            for name, one in bucket.uploads.items())
            return xml(f"<ListMultipartUploadsResult {NAMESPACE}><IsTruncated>false</IsTruncated>{found}"
                       "</ListMultipartUploadsResult>")
        return xml(listing(bucket, request.query))

    def _post_bucket(self, bucket: Bucket, _: str, request: Request) -> Answer:
        keys = [unescape(key) for key in re.findall(r"<Key>(.*?)</Key>", str(request.body, "utf-8"), re.DOTALL)]
        with self._lock:
            for key in keys:
                bucket.objects.pop(key, None)
        deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return xml(f"<DeleteResult {NAMESPACE}>{deleted}</DeleteResult>")

    # Objects

    def _put_object(self, bucket: Bucket, key: str, request: Request) -> Answer:
        kept = {name: value for name, value in request.headers.items() if KEPT_HEADER.fullmatch(name)}
        source = request.headers.get("x-amz-copy-source") or request.headers.get("x-goog-copy-source")
        found = Object((request.body,), kept) if source is None else self._copied(source, request)
        with self._lock:
            if "partNumber" in request.query:
                bucket.upload(request.query["uploadId"]).parts[int(request.query["partNumber"])] = found
            else:
                self._replace(bucket, key, found, request)
        if source is None:
            return Answer(headers=self._names(found))
        part = "CopyPartResult" if "partNumber" in request.query else "CopyObjectResult"
        return xml(f"<{part} {NAMESPACE}><LastModified>{stamp(found.changed)}</LastModified>"
                   f"<ETag>{escape(found.etag)}</ETag></{part}>", **self._names(found))

    def _copied(self, source: str, request: Request) -> Object:
        name, _, key = unquote(source).removeprefix("/").partition("/")
        found = (self.buckets.get(name) or refuse(404, "NoSuchBucket")).find(key)
        _, start, stop = span(request.headers.get("x-amz-copy-source-range"), found.size)
        return Object(tuple(found.between(start, stop)), found.headers)

    def _post_object(self, bucket: Bucket, key: str, request: Request) -> Answer:
        if "uploads" in request.query:
            kept = {name: value for name, value in request.headers.items() if KEPT_HEADER.fullmatch(name)}
            bucket.uploads[name := uuid4().hex] = Upload(key, kept)
            return xml(f"<InitiateMultipartUploadResult {NAMESPACE}><Key>{escape(key)}</Key>"
                       f"<UploadId>{name}</UploadId></InitiateMultipartUploadResult>")
        numbers = [int(one) for one in re.findall(rb"<PartNumber>\s*(\d+)", request.body)]
        with self._lock:
            upload = bucket.upload(request.query["uploadId"])
            if not numbers or not upload.parts.keys() >= {*numbers}:
                refuse(400, "InvalidPart")
            parts = [upload.parts[number] for number in numbers]
            if any(part.size < SMALLEST_PART for part in parts[:-1]):
                refuse(400, "EntityTooSmall")
            found = Object(tuple(piece for part in parts for piece in part.pieces), upload.headers)
            self._replace(bucket, key, found, request)
            del bucket.uploads[request.query["uploadId"]]
        return xml(f"<CompleteMultipartUploadResult {NAMESPACE}><Key>{escape(key)}</Key>"
                   f"<ETag>{escape(found.etag)}</ETag></CompleteMultipartUploadResult>", **self._names(found))

    def _replace(self, bucket: Bucket, key: str, new: Object, request: Request) -> None:
        """Put an object in its place if the request's conditions hold; the lock is held."""
        self._check(bucket, key, request)
        bucket.objects[key] = new

    def _check(self, bucket: Bucket, key: str, request: Request) -> None:
        found, headers = bucket.objects.get(key), request.headers
        if headers.get("if-none-match") == "*" and found:
            refuse(412, "PreconditionFailed")
        if "if-match" in headers and headers["if-match"].strip('"') != bucket.find(key).etag.strip('"'):
            refuse(412, "PreconditionFailed")
        generation = headers.get("x-goog-if-generation-match")
        if generation is not None and int(generation) != (found.generation if found else 0):
            refuse(412, "PreconditionFailed")

    def _get_object(self, bucket: Bucket, key: str, request: Request) -> Answer:
        if "uploadId" in request.query:
            parts = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(one.etag)}</ETag><Size>{one.size}"
                            f"</Size></Part>" for number, one in bucket.upload(request.query["uploadId"]).parts.items())
            return xml(f"<ListPartsResult {NAMESPACE}><IsTruncated>false</IsTruncated>{parts}</ListPartsResult>")
        found = bucket.find(key)
        if "if-match" in request.headers and request.headers["if-match"].strip('"') != found.etag.strip('"'):
            refuse(412, "PreconditionFailed")
        if request.headers.get("if-none-match") in ("*", found.etag):
            return Answer(304)
        status, start, stop = span(request.headers.get("range"), found.size)
        headers = {"Last-Modified": formatdate(found.changed, usegmt=True), "Accept-Ranges": "bytes", **found.headers,
                   **self._names(found)}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{found.size}"
        return Answer(status, found.between(start, stop), headers, stop - start)

    def _head_object(self, bucket: Bucket, key: str, request: Request) -> Answer:
        answer = self._get_object(bucket, key, request)
        answer.body = ()
        return answer

    def _delete_object(self, bucket: Bucket, key: str, request: Request) -> Answer:
        with self._lock:
            if "uploadId" in request.query:
                bucket.upload(request.query["uploadId"])
                del bucket.uploads[request.query["uploadId"]]
                return Answer(204)
            self._check(bucket, key, request)
            if bucket.objects.pop(key, None) is None and self.dialect == GCS:
                refuse(404, "NoSuchKey")
        return Answer(204)

    def _names(self, found: Object) -> dict[str, object]:
        """Headers that tell one content of a key from another."""
        return {"ETag": found.etag, **({"x-goog-generation": found.generation} if self.dialect == GCS else {})}


def span(wanted: str | None, size: int) -> tuple[int, int, int]:
    """Status, start and stop of a `bytes=a-b` header."""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if not asked or asked[0] == "bytes=-":
        return 200, 0, size
    first, last = asked.groups()
    start, stop = (int(first), min(int(last or size) + 1, size)) if first else (max(size - int(last), 0), size)
    if start >= size or start >= stop:
        refuse(416, "InvalidRange")
    return 206, start, stop


def listing(bucket: Bucket, query: dict[str, str]) -> str:
    """One page of a listing, of version 2 or 1."""
    prefix, delimiter, token = (query.get(name, "") for name in ("prefix", "delimiter", "continuation-token"))
    after = token or query.get("start-after") or query.get("marker", "")
    limit = min(int(query.get("max-keys", PAGE)), PAGE)
    named = quote if query.get("encoding-type") == "url" else escape
    found: dict[str, str] = {}  # in order; a common prefix once
    truncated = False
    for key, one in sorted(bucket.objects.copy().items()):
        if key <= after or not key.startswith(prefix):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        name = key[:cut + len(delimiter)] if cut >= 0 else key
        if name in found or (cut >= 0 and name == token):
            continue
        if truncated := len(found) == limit:
            break
        found[name] = (f"<CommonPrefixes><Prefix>{named(name)}</Prefix></CommonPrefixes>" if cut >= 0 else
                       f"<Contents><Key>{named(key)}</Key><LastModified>{stamp(one.changed)}</LastModified>"
                       f"<ETag>{escape(one.etag)}</ETag><Size>{one.size}</Size></Contents>")
    last = next(reversed(found), "")
    more = (f"<NextContinuationToken>{escape(last)}</NextContinuationToken><NextMarker>{named(last)}</NextMarker>"
            if truncated else "")
    encoding = "<EncodingType>url</EncodingType>" if named is quote else ""
    return (f"<ListBucketResult {NAMESPACE}><Prefix>{named(prefix)}</Prefix><KeyCount>{len(found)}</KeyCount>"
            f"<MaxKeys>{limit}</MaxKeys><IsTruncated>{str(truncated).lower()}</IsTruncated>{more}{encoding}"
            f"{''.join(found.values())}</ListBucketResult>")


def received(file: BinaryIO, headers: dict[str, str]) -> memoryview:
    """A request's body, without the two encodings that cut it into chunks. Raises EOFError."""
    chunked = "chunked" in headers.get("transfer-encoding", "")
    if not headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        return dechunked(file) if chunked else filled(file, int(headers.get("content-length", 0)))
    return dechunked(io.BytesIO(dechunked(file)) if chunked else file)


def dechunked(file: BinaryIO) -> memoryview:
    content = bytearray()
    while size := int(file.readline().partition(b";")[0] or b"0", 16):
        content += filled(file, size)
        file.readline()
    while file.readline().strip():
        pass  # trailers: checksums
    return memoryview(content)


def filled(file: BinaryIO, size: int) -> memoryview:
    content = memoryview(_room(size))
    if file.readinto(content) != size:
        raise EOFError
    return content


def _room(size: int) -> bytearray | mmap.mmap:
    """A buffer; a large one of huge pages that nobody has touched, which takes half of the time."""
    if size < HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return bytearray(size)
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    room.madvise(mmap.MADV_HUGEPAGE)
    return room


class Connection(socketserver.StreamRequestHandler):
    """Requests of one client, one after another."""

    disable_nagle_algorithm = True
    rbufsize = 1 << 16

    def handle(self) -> None:
        try:
            while line := self.rfile.readline():
                self._serve(*line.decode("latin-1").split()[:2])
        except (OSError, EOFError):
            pass  # the client is gone; what it sent by halves is dropped

    def _serve(self, method: str, target: str) -> None:
        headers = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode("utf-8").partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        url = urlsplit(target)
        request = Request(method, unquote(url.path), dict(parse_qsl(url.query, keep_blank_values=True)), headers,
                          received(self.rfile, headers))
        try:
            answer = self.server.store.answer(request)
        except RefusedError as refused:
            answer = xml(f"<Error><Code>{refused.code}</Code><Message>{refused.code}</Message></Error>")
            answer.status = refused.status
        self._send(answer, method)

    def _send(self, answer: Answer, method: str) -> None:
        body = [] if answer.status in (204, 304) else [*answer.body]
        length = sum(map(len, body)) if answer.length is None else answer.length
        head = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
                *(f"{name}: {value}" for name, value in answer.headers.items()),
                f"Content-Length: {length}", "Server: fake", f"Date: {formatdate(usegmt=True)}"]
        first = ("\r\n".join(head) + "\r\n\r\n").encode()
        if method == "HEAD":
            body = []
        if length < 1 << 14:
            first, body = b"".join([first, *body]), []
        for piece in (first, *body):
            self.connection.sendall(piece)


class Server(socketserver.ThreadingTCPServer):
    """A store that listens on the loopback; `port` 0 is a free one."""

    allow_reuse_address = daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, store: Store) -> None:
        self.store = store
        super().__init__(("127.0.0.1", port), Connection)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dialect", choices=(S3, GCS), default=S3)
    parser.add_argument("--bucket", action="append", default=[])
    arguments = parser.parse_args()
    with Server(arguments.port, Store(arguments.dialect, arguments.bucket)) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
