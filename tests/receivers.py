"""Servers on loopback that keep what is sent to them: an HTTP server for webhooks, an SMTP server for mail."""

import contextlib
import email
import email.policy
import json
import socket
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Receivers:
    """`webhook`: address of the HTTP server, which keeps `posts`; `smtp`: of the SMTP server, which keeps `mails`."""

    def __init__(self) -> None:
        self.posts: list[dict] = []
        self.mails: list[EmailMessage] = []
        self.webhook = self.smtp = ""

    async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802 - the name is aiosmtpd's
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@contextlib.contextmanager
def receivers() -> Iterator[Receivers]:
    """Both servers, on free ports."""
    kept = Receivers()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    smtp = Controller(kept, hostname="127.0.0.1", port=free_port())  # aiosmtpd takes no 0
    threading.Thread(target=http.serve_forever, daemon=True).start()
    smtp.start()
    try:
        kept.webhook = f"127.0.0.1:{http.server_port}"
        kept.smtp = f"127.0.0.1:{smtp.port}"
        yield kept
    finally:
        smtp.stop()
        http.shutdown()
        http.server_close()
