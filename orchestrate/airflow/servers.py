"""Starts and stops Airflow's four components together.

    python orchestrate/airflow/servers.py start    in the background; returns when all are healthy
    python orchestrate/airflow/servers.py run      in the foreground, until SIGTERM or SIGINT
    python orchestrate/airflow/servers.py stop     stop all of its processes

The web UI listens on AIRFLOW_HOST and AIRFLOW_PORT (127.0.0.1:8080). AIRFLOW__DATABASE__SQL_ALCHEMY_CONN in `.env`
names the metadata database; the embedded PostgreSQL of `make demo` has one.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".airflow"
PID = HOME / "pid"
LOG = HOME / "airflow.log"
HOST = os.environ.get("AIRFLOW_HOST", "127.0.0.1")
PORT = int(os.environ.get("AIRFLOW_PORT", "8080"))
URL = f"http://{'localhost' if HOST == '0.0.0.0' else HOST}:{PORT}"  # noqa: S104 - a URL needs one address
PASSWORDS = HOME / "simple_auth_manager_passwords.json.generated"

COMPONENTS = (["api-server", "--host", HOST, "--port", str(PORT)], ["scheduler"], ["dag-processor"], ["triggerer"])
START = 180  # seconds until all components must be healthy
STOP = 40  # seconds between SIGTERM and SIGKILL

MELTANO = [str(ROOT / ".venv/bin/meltano"), "--environment", "extract", "invoke"]


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
        if alive(found := int(PID.read_text())):
            return found
    return None


def healthy() -> bool:
    """Whether web UI, scheduler, DAG processor and triggerer are healthy."""
    try:
        with urllib.request.urlopen(f"{URL}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310 - loopback
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


def start() -> None:
    """Start the supervisor in the background and wait until all components are healthy."""
    if pid():
        print(f"Airflow is running: {URL}", flush=True)
        return
    prepare()
    print("Airflow: migrating its metadata database", flush=True)
    with LOG.open("ab") as log:
        migrated = subprocess.run([*MELTANO, "airflow:initialize"], cwd=ROOT, stdout=log, stderr=log, check=False)
        if migrated.returncode:
            sys.exit("Airflow cannot migrate its metadata database. Check that AIRFLOW__DATABASE__SQL_ALCHEMY_CONN in "
                     f".env names an existing PostgreSQL database (`make demo` creates one). Airflow's log: {LOG}")
        subprocess.Popen([*MELTANO, "airflow:serve"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                         start_new_session=True)
    print(f"Airflow: starting on {URL}", flush=True)
    deadline = time.monotonic() + START
    while not (healthy() and pid()):
        if time.monotonic() > deadline:
            stop()
            sys.exit(f"Airflow did not become healthy within {START} s. Its log: {LOG}")
        time.sleep(1)
    print(f"Airflow is ready: {URL}, user admin, password in {PASSWORDS}", flush=True)


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
    """Run the components until one of them ends or a signal arrives, then end all.

    Each component has its own process group, so that its child processes end with it.
    """
    prepare()
    PID.write_text(str(os.getpid()))
    environ = os.environ | {
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{PORT}/execution/",
        "AIRFLOW__API__BASE_URL": URL,
    }
    signals: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        signals.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, remember)
    airflow = str(Path(sys.executable).parent / "airflow")
    children = [subprocess.Popen([airflow, *component], cwd=ROOT, env=environ, start_new_session=True)
                for component in COMPONENTS]
    try:
        while not signals and all(child.poll() is None for child in children):
            time.sleep(0.5)
    finally:
        for child in reversed(children):
            end(child)
        PID.unlink(missing_ok=True)
    if not signals:
        sys.exit("A component of Airflow ended unexpectedly. See its output above.")


def end(child: subprocess.Popen[bytes]) -> None:
    """Terminate a component, then kill what is left of its process group."""
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(STOP)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


if __name__ == "__main__":
    commands = {"start": start, "run": run, "stop": stop}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()
