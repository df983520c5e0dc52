"""Start plugins in 0.03 s instead of 0.8 s: forks of a process that has already imported their modules.

Each fork runs the plugin's own entry point with its arguments, environment, folder and pipes. Tests of `meltano run`
start the real executables.

    python warm.py SOCKET        serve: each start forks a keeper, which forks the plugin and reports its exit status
"""

import atexit
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distribution
from pathlib import Path

import failpoints

COMMANDS = {point.name: point for point in distribution("landing").entry_points}
# Imported when they are needed.
LATE = ("landing.extract.postgres.tap", "landing.extract.csv.entity", "landing.zone.target", "landing.load.target",
        "landing.load.tap", "duckdb", "sqlalchemy.dialects.postgresql.psycopg2")
MESSAGE = 1 << 17


class Plugin(subprocess.Popen):
    """subprocess.Popen for one of our commands. It is not a child process: its exit status comes by a socket."""

    address: str

    def _execute_child(self, args: list[str], *more: object) -> None:
        cwd, environment = more[4], more[5]
        stdin, _, _, stdout, _, stderr = pipes = more[9:15]
        files = [file if file != -1 else number for number, file in enumerate((stdin, stdout, stderr))]
        self._keeper = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._keeper.connect(self.address)
        request = {"arguments": [*map(str, args)], "folder": str(cwd or Path.cwd()),
                   "environment": dict(environment or os.environ)}
        socket.send_fds(self._keeper, [json.dumps(request).encode()], files)
        self.pid = int(self._keeper.recv(MESSAGE))
        self._child_created = True
        self._close_pipe_fds(*pipes)

    def _internal_poll(self, *_: object, **__: object) -> int | None:
        if self.returncode is None:
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)
        return self.returncode

    def _try_wait(self, flags: int) -> tuple[int, int]:
        self._keeper.setblocking(not flags & os.WNOHANG)
        try:
            status = self._keeper.recv(MESSAGE)
        except BlockingIOError:
            return 0, 0
        self._keeper.close()
        return self.pid, int(status or signal.SIGKILL)


class Server:
    """The process that plugins are forked from."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        Plugin.address = f"{self._folder.name}/socket"
        self._process = subprocess.Popen([sys.executable, __file__, Plugin.address], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE)
        self._process.stdout.readline()  # it listens

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._folder.cleanup()


def starts(address: str):
    """Yield, in each new process, the request that it is to serve."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers end unnoticed
    print("ready", flush=True)
    while listener in select.select([listener, sys.stdin], [], [])[0]:  # stdin ends with whoever has started us
        keeper, _ = listener.accept()
        if os.fork():
            keeper.close()
            continue
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        message, files, *_ = socket.recv_fds(keeper, MESSAGE, 3)
        if pid := os.fork():
            for file in files:
                os.close(file)
            os.close(1)
            keeper.send(str(pid).encode())
            keeper.send(str(os.waitpid(pid, 0)[1]).encode())
            os._exit(0)
        keeper.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        yield json.loads(message)


def become(request: dict) -> None:
    """Run the plugin as its executable would."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    random.seed()
    sys.argv = request["arguments"]
    program = Path(sys.argv[0]).name
    failpoints.install(program)
    try:
        status = COMMANDS[program].load()()
    except SystemExit as end:
        status = end.code
    _end(status)


def _end(status: object) -> None:
    """End as a plugin does, but for the interpreter's own exit: DuckDB's bindings would report what is frozen here."""
    atexit._run_exitfuncs()
    status = status if isinstance(status, int) else int(status is not None)
    for output in (sys.stdout, sys.stderr):
        try:
            output.flush()
        except OSError:
            status = status or 1
    os._exit(status)


if __name__ == "__main__":
    for command in COMMANDS.values():
        command.load()
    for late in LATE:
        importlib.import_module(late)
    gc.collect()
    gc.freeze()  # what is looked at is copied
    for start in starts(sys.argv[1]):
        become(start)
