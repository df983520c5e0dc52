"""Starts and stops Airflow's components together.

    python orchestrate/airflow/servers.py start [workers]    in the background; returns when all are healthy
    python orchestrate/airflow/servers.py run [workers]      in the foreground, until SIGTERM or SIGINT
    python orchestrate/airflow/servers.py stop               stop all of its processes

With `workers`, tasks run on Celery workers: see workers/. Otherwise the scheduler runs them.

The web UI listens on AIRFLOW_HOST and AIRFLOW_PORT (127.0.0.1:8080), which may stand in `.env`; of the rest, only the
workers' Redis listens, on the loopback. AIRFLOW__DATABASE__SQL_ALCHEMY_CONN in `.env` names the metadata database; the
embedded PostgreSQL of `make demo` has one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

sys.path.append(str(Path(__file__).parent / "dags"))
from landing.api import SettingError, settings
from meltano_dags import alerts
from processes import Component

ROOT = Path(__file__).resolve().parents[2]
os.environ["MELTANO_PROJECT_ROOT"] = str(ROOT)  # where settings() looks for .env
HOME = ROOT / ".airflow"
PID = HOME / "pid"
LOG = HOME / "airflow.log"
PASSWORDS = HOME / "simple_auth_manager_passwords.json.generated"
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104

# Without log servers, which would listen on every address: all components read the same files.
COMPONENTS = (["scheduler", "--skip-serve-logs"], ["dag-processor"], ["triggerer", "--skip-serve-logs"])
START = 300  # seconds until all components must be healthy

MELTANO = [str(ROOT / ".venv/bin/meltano"), "--environment", "extract", "invoke"]
PROGRAM = str(Path(sys.executable).parent / "airflow")


@dataclass(frozen=True)
class Address:
    """Where the web UI listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The web UI's URL, for this machine."""
        host = "localhost" if self.host in EVERYWHERE else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def require_free(self) -> None:
        """Raise SettingError if no program can listen there."""
        try:
            family, kind, *_, where = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
        except socket.gaierror:
            raise SettingError(f"AIRFLOW_HOST={self.host!r} is not an address or name of this machine. Correct it in "
                               ".env, and run again.") from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise SettingError(f"AIRFLOW_HOST={self.host!r} is not an address of this machine. Correct it in .env, "
                                   "and run again.") from None
            raise SettingError(f"Airflow cannot listen on {self.host}, port {self.port}: {error.strerror}. Set "
                               "AIRFLOW_PORT in .env to a free port, and run again.") from None


def address() -> Address:
    """AIRFLOW_HOST and AIRFLOW_PORT, from the environment or .env. Raises SettingError for an invalid port."""
    values = settings()
    host, port = values.get("AIRFLOW_HOST") or "127.0.0.1", values.get("AIRFLOW_PORT") or "8080"
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise SettingError(f"AIRFLOW_PORT={port!r} is not a port. Expected a number from 1 to 65535. Correct it in "
                           ".env, and run again.")
    return Address(host, int(port))


def alive(pid: int) -> bool:
    """Whether a supervisor process with this pid is running and not a zombie."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes() if Path("/proc").is_dir() else b"servers.py"
        os.kill(pid, 0)
    except OSError:
        return False
    return b"servers.py" in command


def pid() -> int | None:
    """Pid of the running supervisor, if any."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        if alive(found := int(PID.read_text().split()[0])):
            return found
    return None


def healthy() -> bool:
    """Whether web UI, scheduler, DAG processor and triggerer are healthy."""
    try:
        with urllib.request.urlopen(f"{address().url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310 - loopback
            return all(part["status"] == "healthy" for part in json.load(answer).values())
    except (OSError, ValueError):
        return False


def prepare() -> None:
    """Create Airflow's home, readable by its owner only, with a generated admin password.

    Airflow would generate one too, but print it to the log.
    """
    HOME.mkdir(mode=0o700, exist_ok=True)
    HOME.chmod(0o700)  # Airflow's command line may have created it
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with contextlib.suppress(FileExistsError), os.fdopen(os.open(PASSWORDS, flags, 0o600), "w") as file:
        json.dump({"admin": secrets.token_urlsafe(16)}, file)
    PASSWORDS.chmod(0o600)


def start(serve: str = "airflow:serve", ready: Callable[[], bool] = healthy) -> None:
    """Start the supervisor in the background and wait until all components are healthy."""
    if pid():
        print(f"Airflow is running: {PID.read_text().split()[1]}", flush=True)
        return
    where = address()
    where.require_free()
    alerts.deadline()
    for name in alerts.unknown() if alerts.urls() else ():
        print(f"Warning: {name} is not a URL that apprise knows. Nothing will be sent there.", flush=True)
    prepare()
    print("Airflow: migrating its metadata database", flush=True)
    with LOG.open("ab") as log:
        migrated = subprocess.run([*MELTANO, "airflow:initialize"], cwd=ROOT, stdout=log, stderr=log, check=False)
        if migrated.returncode:
            sys.exit("Airflow cannot migrate its metadata database. Check that AIRFLOW__DATABASE__SQL_ALCHEMY_CONN in "
                     f".env names an existing PostgreSQL database (`make demo` creates one). Airflow's log: {LOG}")
        supervisor = subprocess.Popen([*MELTANO, serve], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                      start_new_session=True)
    print(f"Airflow: starting on {where.url}", flush=True)
    deadline = time.monotonic() + START
    while not (pid() and healthy() and ready()):
        if supervisor.poll() is not None:
            sys.exit(f"Airflow ended while it started. Its log: {LOG}")
        if time.monotonic() > deadline:
            stop()
            sys.exit(f"Airflow did not become healthy within {START} s. Its log: {LOG}")
        time.sleep(1)
    print(f"Airflow is ready: {where.url}, user admin, password in {PASSWORDS}", flush=True)


def stop() -> None:
    """Stop the supervisor, which stops the components."""
    running = pid()
    if running is None:
        print("Airflow is not running", flush=True)
        return
    os.kill(running, signal.SIGTERM)
    while alive(running):
        time.sleep(0.2)
    print("Airflow has stopped", flush=True)


def run() -> None:
    """Run the components until one of them ends or a signal arrives, then end all."""
    prepare()
    supervise(components())


def components() -> list[Component]:
    """API server, scheduler, DAG processor and triggerer."""
    where = address()
    environ = {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{where.url}/execution/",
               "AIRFLOW__API__BASE_URL": where.url}
    web = ["api-server", "--host", where.host, "--port", str(where.port)]
    return [Component(words[0], [PROGRAM, *words], ROOT, environ) for words in (web, *COMPONENTS)]


def supervise(parts: list[Component]) -> None:
    """Run components until one of them ends for good or a signal arrives, then end all, the first one last."""
    PID.write_text(f"{os.getpid()} {address().url}\n")
    signals: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        signals.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, remember)
    try:
        for part in parts:
            part.start()
        while not signals and all(part.keep_running() for part in parts):
            time.sleep(0.5)
        ended = [part.name for part in parts if part.ended]
    finally:
        for part in reversed(parts):
            part.end()
        PID.unlink(missing_ok=True)
    if not signals:
        sys.exit(f"A component of Airflow ended unexpectedly: {', '.join(ended)}. See its output above.")


def main(words: list[str]) -> None:
    """Run a command of the docstring."""
    commands = {("start",): start, ("run",): run, ("stop",): stop}
    if words[1:] == ["workers"]:
        from workers import machine  # here: its requirements are installed by `make workers` only

        commands = {("start", "workers"): machine.start, ("run", "workers"): machine.run}
    if tuple(words) not in commands:
        sys.exit(__doc__)
    try:
        commands[tuple(words)]()
    except SettingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
