"""A process that does tasks for another one: `python -m landing.verify.worker DESCRIPTOR`.

It ends when the other end of its pipe is closed, so with the process that started it, however that ends: a thread waits
for that, since libpq or a long hash keep the main thread busy.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection as Pipe
from typing import Any

import psycopg2

from landing.core.errors import LandingError, describe
from landing.core.progress import RowCounter
from landing.postgres.connect import connect
from landing.postgres.session import Session

PASSED, LOGGED, DONE, FAILED = "passed", "logged", "done", "failed"


class _Answers(logging.Handler):
    """Sends answers and log records to the other process, from any thread."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe, self._sending = pipe, threading.Lock()

    def send(self, kind: str, value: Any) -> None:
        with self._sending:
            self._pipe.send((kind, value))

    def emit(self, record: logging.LogRecord) -> None:
        self.send(LOGGED, (record.name, record.levelno, record.getMessage()))


def main() -> None:
    """Do the tasks that come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal: the caller ends this one
    pipe = Pipe(int(sys.argv[1]))
    server: Mapping[str, Any]
    server, stall_timeout, level = pipe.recv()
    answers = _Answers(pipe)
    logging.basicConfig(level=level, handlers=[answers])
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, tasks), daemon=True).start()

    @functools.cache
    def connection() -> Session:
        return connect(server, str(server.get("application_name", "landing")), stall_timeout, role="TARGET")

    while True:
        answers.send(*_outcome(tasks.get(), connection, answers))


def _receive(pipe: Pipe, tasks: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            tasks.put(pipe.recv())
    finally:
        os._exit(0)


def _outcome(task: Any, connection: Any, answers: _Answers) -> tuple[str, Any]:
    counter = RowCounter()

    def passed(chunk: Any) -> None:
        answers.send(PASSED, (counter.count(bytes(chunk)), len(chunk)))

    try:
        return DONE, task(connection, passed)
    except Exception as error:
        return FAILED, _portable(error)


def _portable(error: Exception) -> Exception:
    """An error that another process can unpickle, with its message."""
    if isinstance(error, psycopg2.Error):  # pickled, it would lose what describe() takes its message from
        return type(error)(describe(error))
    if isinstance(error, LandingError):  # of some classes __init__ makes the message
        return next(kind for kind in type(error).__mro__ if "__init__" not in vars(kind))(str(error))
    with contextlib.suppress(Exception):
        if str(pickle.loads(pickle.dumps(error))) == str(error):  # noqa: S301 - our own
            return error
    return RuntimeError("".join(traceback.format_exception(error)))


if __name__ == "__main__":
    main()
