"""What goes wrong around a run: disks that fill up, servers that restart, connections that are cut or fall silent."""

import contextlib
import multiprocessing
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

IP_MINTTL = 21  # Linux: the kernel drops what comes from further away
NEVER = 255  # loopback packets start at 64


class Disk:
    """A small disk of its own at `path`, on memory; only root can make one."""

    def __init__(self, path: Path, options: str = "size=8m") -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{options},mode=755", "tmpfs", str(path)], check=True)

    def fill(self, leave: int = 0) -> None:
        """Until so many bytes are free."""
        with (self.path / "filler").open("ab", buffering=0) as filler:
            room = os.statvfs(self.path)
            with contextlib.suppress(OSError):
                filler.write(bytes(max(room.f_bavail * room.f_frsize - leave, 0)))

    def fill_up_names(self) -> None:
        """Until no other file or folder can be made."""
        (self.path / "names").mkdir(exist_ok=True)
        with contextlib.suppress(OSError):
            for number in range(100_000):
                (self.path / "names" / str(number)).touch()

    def empty(self) -> None:
        """Remove what filled it."""
        (self.path / "filler").unlink(missing_ok=True)
        for path in (self.path / "names").glob("*"):
            path.unlink()

    def remount(self, how: str) -> None:
        """`ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.path)], check=True)

    def remove(self) -> None:
        """Take it away, whatever is in it."""
        subprocess.run(["umount", "-l", str(self.path)], check=True)


@contextlib.contextmanager
def account(user: int) -> Iterator[None]:
    """Do something with the rights of another user."""
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


class Proxy:
    """A way to a server, through which connections can be cut or fall silent.

    In a process of its own: psycopg2 holds up every thread of ours while it cancels a query.
    """

    def __init__(self, port: int) -> None:
        fork = multiprocessing.get_context("fork")
        self._control, commands = fork.Pipe()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            self._process = fork.Process(target=_Way(listener, port).obey, args=(commands, self._control), daemon=True)
            self._process.start()

    def cut(self) -> None:
        """Both sides see the end of every connection that there is."""
        self._do("cut")

    def fall_silent(self) -> None:
        """Nothing passes any more and nobody is told: the kernel drops what comes, keepalive probes too."""
        self._do("fall_silent")

    def stop_reading(self) -> None:
        """Nothing passes any more, and the kernel goes on answering."""
        self._do("stop_reading")

    def _do(self, command: str) -> None:
        self._control.send(command)
        self._control.recv()

    def close(self) -> None:
        """End it all."""
        self._process.kill()
        self._process.join()

    @staticmethod
    @contextlib.contextmanager
    def silent() -> Iterator[int]:
        """A port where connections are taken, and nobody ever answers."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield listener.getsockname()[1]


class _Way:
    """What the proxy's own process does."""

    def __init__(self, listener: socket.socket, port: int) -> None:
        self._listener, self._to = listener, port
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._silent = threading.Event()

    def obey(self, commands: Connection, other_end: Connection) -> None:
        """Execute commands until this process is killed, or its parent is gone."""
        other_end.close()
        threading.Thread(target=self._accept, daemon=True).start()
        with contextlib.suppress(EOFError):
            while True:
                getattr(self, commands.recv())()
                commands.send(None)

    def cut(self) -> None:
        for one in [one for pair in self._pairs for one in pair]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def stop_reading(self) -> None:
        self._silent.set()

    def fall_silent(self) -> None:
        self._silent.set()
        for one in [one for pair in self._pairs for one in pair]:
            one.setsockopt(socket.IPPROTO_IP, IP_MINTTL, NEVER)

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(("127.0.0.1", self._to))
            self._pairs.append((near, far))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := one.recv(65536):
                if self._silent.is_set():
                    return
                other.sendall(content)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)
