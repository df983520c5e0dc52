"""Ports on the loopback."""

from __future__ import annotations

import contextlib
import socket
import sys
import time

HOST = "127.0.0.1"
START = 30  # seconds until a server must answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def wait_for(port: int, program: str) -> None:
    """Until a program listens. Exits if it does not."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.1)
    sys.exit(f"{program} did not listen on {HOST}, port {port}, within {START} s. See its output above.")
