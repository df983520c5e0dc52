"""A proxy in front of an object store: a rule watches each request and may delay, refuse, cut or lose it.

    def rule(moment, request):
        if moment == AFTER and request.method == "PUT" and request.path.endswith("/_manifest.json"):
            return CUT  # carried out, and the client is never told

    with Disturber(store) as disturber:
        disturber.rule = rule
        … store.environment(disturber.port) …

A rule is called at up to four moments of a request. It may wait, or kill the client; it returns None to go on, CUT to
close the connections to client and server there and then, a status that the client gets instead, or Late(seconds): the
client is cut off, and the request reaches the server so much later.
"""

from __future__ import annotations

import http.client
import itertools
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

BEFORE = "before"  # nothing has reached the server
MIDWAY = "midway"  # half of the request's body has, if it has one
AFTER = "after"  # the server has answered, and nothing has reached the client
ANSWERING = "answering"  # half of the answer's body has, if it has one
MOMENTS = (BEFORE, MIDWAY, AFTER, ANSWERING)
CUT = 0
CONDITIONS = (b"if-match", b"if-none-match", b"x-goog-if-generation-match")


@dataclass(frozen=True)
class Late:
    """The client is cut off, and the request goes on after so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Request:
    """One request; `number` counts those of its proxy from 0, `condition` is the header that it has, if any."""

    number: int
    method: str
    path: str
    query: dict[str, str]
    condition: str

    def __str__(self) -> str:
        query = "&".join(sorted({*self.query} - {"prefix"}))
        return f"{self.method} {self.path}{'?' if query else ''}{query}{' ' if self.condition else ''}{self.condition}"


Rule = Callable[[str, Request], int | Late | None]


class _CutError(Exception):
    """Close both connections."""


class Disturber(socketserver.ThreadingTCPServer):
    """The proxy at work; `seen` are its requests so far."""

    allow_reuse_address = daemon_threads = True
    request_queue_size = 256

    def __init__(self, store) -> None:
        self.rule: Rule = lambda moment, request: None
        self.seen: list[Request] = []
        self.to = store.port
        self.numbers = itertools.count()
        super().__init__(("127.0.0.1", 0), _Client)
        self.port = self.server_address[1]

    def __enter__(self) -> Disturber:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Client(socketserver.StreamRequestHandler):
    """Requests of one connection, each passed on by a connection of its own."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        try:
            while line := self.rfile.readline():
                self._pass(line)
        except (OSError, http.client.HTTPException, _CutError):
            pass  # closes this connection

    def _pass(self, line: bytes) -> None:
        head, size, condition = [line], 0, ""
        while (header := self.rfile.readline()).strip():
            head.append(header)
            name, _, value = header.lower().partition(b":")
            size = int(value) if name == b"content-length" else size
            condition = name.decode() if name in CONDITIONS else condition
        body = self.rfile.read(size)
        if len(body) < size:
            raise _CutError  # the client is gone
        method, target, _ = line.decode("latin-1").split()
        url = urlsplit(target)
        request = Request(next(self.server.numbers), method, unquote(url.path),
                          dict(parse_qsl(url.query, keep_blank_values=True)), condition)
        self.server.seen.append(request)
        if not self._refused(BEFORE, request):
            self._forward(request, b"".join(head) + b"\r\n", body)

    def _forward(self, request: Request, head: bytes, body: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.server.to)) as server:
            half = len(body) // 2
            server.sendall(head + body[:half])
            if body and self._refused(MIDWAY, request):
                return
            server.sendall(body[half:])
            answer = http.client.HTTPResponse(server, method=request.method)
            answer.begin()
            content = answer.read()
        if self._refused(AFTER, request):
            return
        self._answer(answer.status, answer.getheaders(), content[:len(content) // 2], len(content))
        if content:
            if self._refused(ANSWERING, request):
                raise _CutError
            self.wfile.write(content[len(content) // 2:])

    def _refused(self, moment: str, request: Request) -> bool:
        """Whether the rule had the client answered with a status. Raises _CutError."""
        status = self.server.rule(moment, request)
        if status == CUT:
            raise _CutError
        if isinstance(status, Late):
            self.connection.shutdown(socket.SHUT_RDWR)
            time.sleep(status.seconds)
            return False
        if status:
            self._answer(status, [], b"", 0)
        return bool(status)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, size: int) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers
                  if name.lower() not in ("transfer-encoding", "connection", "keep-alive")]
        if not any(name.lower() == "content-length" for name, _ in headers):  # HEAD's is of what it does not send
            lines.append(f"Content-Length: {size}")
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + content)
