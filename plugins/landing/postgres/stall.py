"""Tells a stalled server from a busy one: by the bytes on the socket, and by a second connection."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg2

QUERY_TIMEOUT = 30.0  # seconds for the second connection
SAMPLES, INTERVAL = 3, 0.3  # of the backend's state, and seconds between them
COUNTERS = struct.Struct("=QQ")  # Linux' tcp_info: bytes acknowledged by the peer, bytes received
COUNTERS_AT = 120
ACTIVITY = "SELECT state, wait_event_type, wait_event FROM pg_stat_activity WHERE pid = %s"
logger = logging.getLogger("landing")


def socket_counters(connection: psycopg2.extensions.connection) -> tuple[int, int] | None:
    """Bytes sent and received; None where the system does not count them."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as copy:
            found = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, COUNTERS_AT + COUNTERS.size)
        return COUNTERS.unpack_from(found, COUNTERS_AT)
    except (OSError, psycopg2.Error, struct.error):  # a local or closed socket
        return None


def why_stalled(arguments: Mapping[str, Any], backend: int, stall_timeout: float) -> str | None:
    """Ask the server by a second connection. Returns None if the backend is busy."""
    limit = max(min(QUERY_TIMEOUT, stall_timeout), 2 * SAMPLES * INTERVAL)
    answered, states = bounded(lambda: _states(arguments, backend), limit)
    if not answered:
        return f"a second connection got no answer in {limit:g} s"
    if isinstance(states, Exception):
        return f"a second connection failed ({' '.join(str(states).split())})"
    if None in states:
        return "the server has ended its session"
    for state, kind, event in states:
        if kind != "Client" and not (state or "").startswith("idle"):
            logger.info("No byte from PostgreSQL backend %d for %g s, but it is busy (%s%s).", backend, stall_timeout,
                        state, f", waiting for {kind} {event}" if kind else "")
            return None
    return f"its session waits for the client ({states[-1][2] or states[-1][0]})"


def _states(arguments: Mapping[str, Any], backend: int) -> list[tuple[str, str, str] | None]:
    with contextlib.closing(psycopg2.connect(**arguments)) as other, other.cursor() as cursor:
        other.autocommit = True
        states = []
        for _ in range(SAMPLES):
            cursor.execute(ACTIVITY, (backend,))
            states.append(cursor.fetchone())
            time.sleep(INTERVAL)
        return states


def bounded(task: Callable[[], Any], limit: float) -> tuple[bool, Any]:
    """Run a task for up to `limit` seconds: whether it ended in time, and its result or the Exception it raised."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(task())
        except Exception as error:  # reported by the caller
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    return bool(result), result[0] if result else None
