"""Kill a process where it is about to write: inside a plugin that was started with FAULT in its environment.

    FAULT={"in": "landing-target-postgres", "log": "…"}                             note every boundary, in order
    FAULT={"in": "landing-target-postgres", "log": "…", "at": 17, "kill": "self"}   kill -9 at the 17th
    FAULT={"in": "landing-target-csv", "log": "…", "at": 17, "kill": "term", "pause": 0.2}
                                    SIGTERM there; the thread that handles it gets so many seconds before ours goes on

A boundary stands before whatever others could see of a process: a file or folder that is made, written, synced,
renamed or removed, a message to the next process, a statement to a server, a request that changes a store. After one
is before the next.
"""

import builtins
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from landing.model.naming import RUN_ID

SELF, PARENT, BACKEND, TERM = "self", "meltano", "backend", "term"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
AUDITED = {"os.rename": "rename", "os.mkdir": "mkdir", "os.remove": "unlink", "os.rmdir": "rmdir"}
DEVICES = ("/dev/fd/", "/dev/null", "/dev/tty", "/dev/urandom", "/dev/shm/PostgreSQL")  # noqa: S108 (tests may be in shm)
NOT_OURS = (*DEVICES, "/proc/", "/sys/", "__pycache__")


class Boundaries:
    """Counts them, and kills at the one that is asked for."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self.log, self.at, self.kill = fault["log"], fault.get("at"), fault.get("kill")
        self.pause = fault.get("pause", 0)
        self._count = 0
        self._lock = threading.RLock()  # a boundary that is noted opens a file

    def reached(self, what: str, connection: Any = None) -> None:
        """One more."""
        with self._lock:
            number, self._count = self._count, self._count + 1
            if self.at is None:
                self._note(number, what)
            elif number == self.at and (self.kill != BACKEND or connection):
                self._note(number, what)
                os.kill(self._victim(connection), signal.SIGTERM if self.kill == TERM else signal.SIGKILL)
        if number == self.at:  # outside of the lock: the thread that handles the signal has boundaries, too
            time.sleep(self.pause)

    def _victim(self, connection: Any) -> int:
        if self.kill == BACKEND:
            return connection.info.backend_pid
        return os.getppid() if self.kill == PARENT else os.getpid()

    def _note(self, number: int, what: str) -> None:
        line = json.dumps({"number": number, "what": what}) + "\n"
        with builtins.open(self.log, "a") as log:
            log.write(line)


def install(program: str) -> None:
    """Have this process look for its fault, if it is the program that FAULT is about."""
    fault = json.loads(os.environ.get("FAULT", "{}"))
    if fault.get("in") == program:
        boundaries = Boundaries(fault)
        _watch_files(boundaries)
        _watch_messages(boundaries)
        _watch_statements(boundaries)
        _watch_requests(boundaries)


def _watch_files(boundaries: Boundaries) -> None:
    def audit(event: str, arguments: tuple) -> None:
        if event == "open":
            path, flags = str(arguments[0]), arguments[2] or 0
            if isinstance(arguments[0], str | os.PathLike) and flags & WRITING and _ours(path, boundaries):
                boundaries.reached(f"create {_named(path)}")
        elif event in AUDITED and _ours(path := str(arguments[event == "os.rename"]), boundaries):
            boundaries.reached(f"{AUDITED[event]} {_named(path)}")

    def fsync(descriptor: int, sync: Callable[[int], None] = os.fsync) -> None:
        boundaries.reached(f"fsync {_named(str(Path(f'/proc/self/fd/{descriptor}').readlink()))}")
        sync(descriptor)

    def os_write(descriptor: int, data: bytes, write: Callable[[int, bytes], int] = os.write) -> int:
        boundaries.reached(f"write {_named(str(Path(f'/proc/self/fd/{descriptor}').readlink()))}")
        return write(descriptor, data)

    from landing.storage.hashing import HashedFile

    def write(file: HashedFile, chunk: bytes, write: Callable = HashedFile.write) -> int:
        boundaries.reached(f"write {_named(file.name)}")
        return write(file, chunk)

    os.fsync, os.write, HashedFile.write = fsync, os_write, write
    sys.addaudithook(audit)


def _watch_messages(boundaries: Boundaries) -> None:
    from singer_sdk.singerlib.encoding.simple import SimpleSingerWriter

    def write_message(writer: Any, message: Any, write: Callable = SimpleSingerWriter.write_message) -> None:
        boundaries.reached(f"message {type(message).__name__.removeprefix('SDK').removesuffix('Message').upper()}")
        write(writer, message)

    SimpleSingerWriter.write_message = write_message


def _watch_statements(boundaries: Boundaries) -> None:
    import psycopg2
    from psycopg2.extensions import cursor

    class Cursor(cursor):
        def execute(self, statement: Any, values: Any = None) -> None:
            boundaries.reached(f"SQL {_worded(statement, self)}", self.connection)
            super().execute(statement, values)

        def copy_expert(self, statement: Any, file: Any, size: int = 8192) -> None:
            boundaries.reached(f"SQL {_worded(statement, self)}", self.connection)
            super().copy_expert(statement, file, size)

    def connect(*arguments: Any, connect: Callable = psycopg2.connect, **more: Any) -> Any:
        return connect(*arguments, **{**more, "cursor_factory": Cursor})

    psycopg2.connect = connect


def _watch_requests(boundaries: Boundaries) -> None:
    """Those that change a store."""
    import obstore
    from landing.storage.transfer import Upload

    def counted(name: str, call: Callable) -> Callable:
        def request(store: Any, key: Any, *more: Any, **options: Any) -> Any:
            boundaries.reached(f"{name} {_named(key if isinstance(key, str) else key[0])}")
            return call(store, key, *more, **options)
        return request

    for name in ("put", "copy", "delete"):
        setattr(obstore, name, counted(name, getattr(obstore, name)))

    def close(upload: Upload, close: Callable = Upload.close) -> None:
        if not upload.closed:
            boundaries.reached("upload")
        close(upload)

    Upload.close = close


def _ours(path: str, boundaries: Boundaries) -> bool:
    return path != boundaries.log and not any(part in path for part in NOT_OURS)


def _named(path: str) -> str:
    """A file's name without what differs in each run."""
    name = Path(path).name
    return re.sub(RUN_ID, "<run>", re.sub(r"landing-\w{8}$", "<scratch>", name))


def _worded(statement: Any, cursor: Any) -> str:
    """What a statement does, in the words before its first name."""
    text = statement.as_string(cursor) if hasattr(statement, "as_string") else statement
    text = text.decode() if isinstance(text, bytes) else text
    words = re.sub(r"\s+", " ", text).strip()
    return " ".join(re.split(r"[\"'(%;]", words)[0].split()[:6])
