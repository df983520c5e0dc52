"""Runs docker-compose.yaml on a Docker engine of its own, without pulling images.

    python docker/compose_test.py [--without airflow] [--keep FOLDER]

Needs root and Debian's docker.io, debootstrap and docker-compose (or Compose v2 as $COMPOSE). A Debian made by
debootstrap replaces the official images, under their names: this tests the project's containers, not those images. The
test builds a clean copy of the project, waits until it is healthy, runs one date twice, and removes everything. Engine,
data and mounts are in a scratch folder that is always removed; with --keep, images are kept in FOLDER for the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
STAND_INS = PROJECT / "docker" / "stand-ins"
DOCKER = "/usr/bin/docker"  # Debian's: another one on PATH may belong to another engine
PACKAGES = "ca-certificates,make,postgresql,python3,python3-pip,redis-server,wget"
# Package index settings of this machine; only the temporary stand-in images get them.
INDEX = re.compile(r"(PIP|UV)_.*(INDEX|CERT|LINKS).*|SSL_CERT_FILE|(HTTPS?|NO)_PROXY", re.IGNORECASE)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DAY = "2024-01-20"
WORKERS_DAYS = ("2024-01-21", "2024-01-22")


class TestError(RuntimeError):
    """A check failed; with the output."""


def say(text: str) -> None:
    print(f"compose-test: {text}", flush=True)


def missing() -> list[str]:
    """Requirements that this machine lacks."""
    needs = {"dockerd": "docker.io", DOCKER: "docker.io", "debootstrap": "debootstrap"}
    lacks = {package for program, package in needs.items() if not shutil.which(program)}
    if not shutil.which(os.environ.get("COMPOSE", "docker-compose")):
        lacks.add("docker-compose")
    return (["root"] if os.geteuid() else []) + [f"Debian's package {package}" for package in sorted(lacks)]


def run(*command: object, environment: dict | None = None, check: bool = True, folder: Path | None = None) -> str:
    """Run a command and return its output; a failure raises TestError with the output."""
    done = subprocess.run(  # noqa: S603 - our own commands, no shell
        [str(part) for part in command], cwd=folder, env={**os.environ, **(environment or {})}, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=900,
    )  # fmt: skip
    if check and done.returncode:
        raise TestError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout[-5000:]}")
    return done.stdout


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="landing-compose-") as name:
        yield Path(name)


@contextlib.contextmanager
def engine(scratch: Path) -> Iterator[dict]:
    """Run a dockerd without iptables and bridge, isolated from the host's. Yields the environment to reach it."""
    scratch.mkdir(exist_ok=True)
    address = f"unix://{scratch}/docker.sock"
    command = ["dockerd", "--iptables=false", "--bridge=none", "--storage-driver=overlay2",
               "--data-root", scratch / "data", "--exec-root", scratch / "exec", "-p", scratch / "pid", "-H", address]
    with (scratch / "dockerd.log").open("w") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603
    try:
        environment = {"DOCKER_HOST": address, "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
        wait_for("the engine",
                 lambda: "Server Version" in run(DOCKER, "info", environment=environment, check=False), 60,
                 lambda: daemon.poll() is not None and (scratch / "dockerd.log").read_text()[-3000:])
        yield environment
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(timeout=120)
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{scratch}/"):
                run("umount", line.split()[1], check=False)
        if left := left_of(scratch):
            raise TestError(f"the engine left mounts or processes behind: {left}")


def left_of(scratch: Path) -> list[str]:
    """Mounts below the scratch folder, and processes that name it."""
    found = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended
            found.append(file.read_text(errors="replace").replace("\0", " "))
    return [text for text in found if f"{scratch}/" in text]


def wait_for(name: str, ready: Callable[[], bool], seconds: float, failure: Callable[[], object]) -> None:
    """Wait until `ready`, up to `seconds`; give up early once `failure` returns a reason."""
    deadline = time.monotonic() + seconds
    while not ready():
        reason = failure()
        if reason or time.monotonic() > deadline:
            raise TestError(f"{name} was not ready within {seconds} s: {reason or 'reason unknown'}")
        time.sleep(0.5)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def copy_project(folder: Path) -> None:
    """Copy what a clone has: without .env, environments and landed data."""
    listed = run("git", "-C", PROJECT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)


def official_images() -> dict[str, str]:
    """Names of the official images, by kind of stand-in."""
    text = "".join((PROJECT / name).read_text() for name in ("docker-compose.yaml", "docker/Dockerfile"))
    kinds = {"python": r"FROM (python:\S+)", "postgres": r"image: (postgres:\S+)", "pgadmin": r"image: (dpage/\S+)",
             "redis": r"image: (redis:\S+)"}
    return {kind: re.search(pattern, text)[1] for kind, pattern in kinds.items()}


def make_stand_ins(scratch: Path, environment: dict) -> None:
    """Build a Debian base image, unless it exists, and the stand-ins for the official images."""
    if not run(DOCKER, "images", "-q", "landing-stand-in", environment=environment).strip():
        make_debian(scratch, environment)
    for kind, name in official_images().items():
        run(DOCKER, "build", "-q", "--target", kind, "-t", name, STAND_INS, environment=environment)


def make_debian(scratch: Path, environment: dict) -> None:
    """Import a minimal Debian as landing-stand-in, with this machine's certificates and package index."""
    mirror = re.search(r"^(?:URIs:|deb(?: \[[^]]*\])?) (http\S+debian/?)\s", "\n".join(
        path.read_text() for path in sorted(Path("/etc/apt").glob("sources.list*/*.sources"))
        + sorted(Path("/etc/apt").glob("sources.list"))), re.MULTILINE)  # fmt: skip
    root = scratch / "root"
    run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root, mirror[1] if mirror else "")
    if CERTIFICATES.exists():
        shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    changes = [part for name, value in os.environ.items() if INDEX.fullmatch(name)
               for part in ("--change", f"ENV {name}={value}")]
    archive = scratch / "root.tar"
    run("tar", "cf", archive, "-C", root, ".")
    run(DOCKER, "import", *changes, archive, "landing-stand-in", environment=environment)
    archive.unlink()
    shutil.rmtree(root)


class Stack:
    """The Compose services of a project copy."""

    def __init__(self, folder: Path, environment: dict) -> None:
        self.folder = folder
        self.environment = {**environment, "COMPOSE_PROJECT_NAME": "landing-test"}
        self.ports = dict(zip(("SOURCE_POSTGRES", "TARGET_POSTGRES", "AIRFLOW", "PGADMIN", "WORKERS"),
                              free_ports(5), strict=True))
        # Characters with a meaning in URLs, passfiles and shells.
        self.password = f"p:w@d/%41'{secrets.token_hex(8)}"

    def write_env(self) -> None:
        lines = [f"{side}_POSTGRES_PASSWORD={self.password}" for side in ("SOURCE", "TARGET")]
        lines += [f"{name}_PORT={port}" for name, port in self.ports.items()]
        (self.folder / ".env").write_text("\n".join([*lines, ""]))

    def compose(self, *arguments: str, check: bool = True, **variables: str) -> str:
        # The caller's variables must not override the project's .env.
        inherited = {name: "" for name in os.environ if name.startswith(("SOURCE_POSTGRES", "TARGET_POSTGRES"))}
        program = os.environ.get("COMPOSE", "docker-compose")
        said = run(program, *arguments, environment={**inherited, **self.environment, **variables}, check=check,
                   folder=self.folder)
        if self.password in said and arguments[0] != "config":
            raise TestError(f"the output of `compose {' '.join(arguments)}` contains the password")
        return said

    def meltano(self, *arguments: str, **variables: str) -> str:
        return self.compose("--profile", "tools", "run", "--rm", "-T", "meltano", *arguments, **variables)

    def health(self, service: str) -> str:
        """Health of the newest container: healthy, unhealthy or starting; empty if there is none."""
        containers = self.compose("ps", "-q", service).split()
        if not containers:
            return ""
        return run(DOCKER, "inspect", "-f", "{{.State.Health.Status}}", containers[-1],
                   environment=self.environment).strip()

    def wait_healthy(self, service: str, seconds: float = 120) -> None:
        wait_for(service, lambda: self.health(service) == "healthy", seconds,
                 lambda: self.health(service) == "unhealthy" and self.compose("logs", "--tail=60", service))
        say(f"{service} is healthy")


def run_one_date(stack: Stack) -> list[str]:
    """Extract both sources, load and verify; returns the lines of `landing verify`."""
    logs = [stack.meltano("run", "extract_postgres", "extract_csv", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY),
            stack.meltano("run", "load_to_postgres", MELTANO_ENVIRONMENT="load", EXTRACTED_AT=DAY)]
    report = stack.meltano("invoke", "landing", "verify", DAY)
    lines = re.findall(r"^(?:postgres|csv) .*$", report, re.MULTILINE)
    if len(lines) != 14 or not all(line.rstrip().endswith("yes") for line in lines):
        raise TestError(f"{DAY} failed verification:\n{''.join(logs)[-3000:]}{report}")
    return [line.rstrip() for line in lines]


def try_stack(stack: Stack, without: list[str]) -> None:
    """Without a password nothing starts; with one, a date is landed, loaded and verified twice."""
    said = stack.compose("config", "-q", check=False)
    if "SOURCE_POSTGRES_PASSWORD is not set" not in said:
        raise TestError(f"without a password Compose should fail and name the variable: {said}")
    stack.write_env()
    for target in (target for target in ("project", "airflow", "workers") if target not in without):
        image = f"landing-{target}"
        started = time.monotonic()
        run(DOCKER, "build", "--network=host", "--target", target, "-t", image, "-f", "docker/Dockerfile", ".",
            environment=stack.environment, folder=stack.folder)
        say(f"built {image} in {time.monotonic() - started:.0f} s")
    found = run(DOCKER, "run", "--rm", "--network=none", image, "sh", "-c", "id -u; ls -A",
                environment=stack.environment).split()
    if found[0] == "0" or {".env", ".git", "tests"} & {*found}:
        raise TestError(f"the image runs as {found[0]} and contains {found[1:]}")
    stack.compose("up", "-d")
    stack.wait_healthy("source")
    stack.wait_healthy("target")
    first = run_one_date(stack)
    say(f"{DAY}: {len(first)} tables verified")
    if run_one_date(stack) != first:
        raise TestError("the second run of the date changed it")
    say(f"{DAY}, second run: the same {len(first)} tables by rows, bytes and SHA-256")


def try_pgadmin(stack: Stack) -> None:
    """The stand-in is healthy only if it can open both registered servers with the passfile."""
    stack.compose("--profile", "inspect", "up", "-d")
    stack.wait_healthy("pgadmin")


def try_airflow(stack: Stack) -> None:
    """The API server answers on the loopback, and a DAG run succeeds."""
    stack.compose("--profile", "airflow", "up", "-d")
    stack.wait_healthy("airflow", seconds=600)
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.ports['AIRFLOW']}/api/v2/version", timeout=10) as answer:
        say(f"Airflow version: {answer.read().decode().strip()}")
    said = stack.compose("exec", "-T", "airflow", ".venv/bin/meltano", "invoke", "airflow", "dags", "test",
                         "ELT_with_meltano", DAY)
    if "state=success" not in said:
        raise TestError(f"`airflow dags test` did not succeed:\n{said[-5000:]}")
    say("airflow dags test ELT_with_meltano: success")


def try_workers(stack: Stack) -> None:
    """Dates of the DAG run on both workers and are verified on the store; no container has landed files."""
    stack.compose("--profile", "airflow", "rm", "--stop", "--force", "airflow")
    stack.compose("--profile", "workers", "up", "-d")
    stack.wait_healthy("control", seconds=600)

    def control(command: str, check: bool = True) -> str:
        return stack.compose("exec", "-T", "control", "sh", "-c", f". /keys/airflow.env && {command}", check=check)

    workers = stack.compose("ps", "-q", "worker").split()
    wait_for("the workers", lambda: control("airflow celery list-workers 2>/dev/null").count("celery@") == 2, 300,
             lambda: None)
    for day in WORKERS_DAYS:
        control(f"airflow dags trigger ELT_with_meltano --conf '{{\"date\": \"{day}\"}}'")
    wait_for("both dates", lambda: len(re.findall(r'"state": "success"', control(
        "airflow dags list-runs ELT_with_meltano -o json 2>/dev/null"))) >= len(WORKERS_DAYS) + 1, 900, lambda: None)
    for day in WORKERS_DAYS:
        if "14 of 14 tables equal" not in (said := control(f"plugins/.venv/bin/landing verify {day}", check=False)):
            raise TestError(f"{day} failed verification on the store:\n{said}")
    for container in workers:
        if run(DOCKER, "exec", container, "find", "output", "-type", "f", environment=stack.environment).strip():
            raise TestError(f"{container} has landed files")
    say(f"{len(workers)} workers: {' and '.join(WORKERS_DAYS)} verified on the store")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", choices=["airflow", "workers"], action="append", default=[])
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="absolute path of a folder to keep images in")
    arguments = parser.parse_args()
    if lacks := missing():
        sys.exit(f"compose-test needs {', '.join(lacks)}. Install with apt-get install --no-install-recommends.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("compose-test: terminated"))
    started = time.monotonic()
    with scratch_folder() as scratch, engine(arguments.keep or scratch) as environment:
        folder = scratch / "project"
        make_stand_ins(scratch, environment)
        say(f"built stand-ins for {', '.join(official_images().values())} in {time.monotonic() - started:.0f} s")
        copy_project(folder)
        stack = Stack(folder, environment)
        try:
            try_stack(stack, arguments.without)
            try_pgadmin(stack)
            if "airflow" not in arguments.without:
                try_airflow(stack)
            if "workers" not in arguments.without:
                try_workers(stack)
        finally:
            if (folder / ".env").exists():
                stack.compose("--profile", "airflow", "--profile", "workers", "--profile", "inspect",
                              "--profile", "tools", "down", "--volumes", "--timeout", "60", check=False)
    say(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except TestError as error:
        sys.exit(f"compose-test: {error}")
