"""docker-compose.yaml, run for real on an engine of its own, where no image can be pulled.

    python docker/compose_test.py [--without airflow] [--keep FOLDER]

As root, with Debian's docker.io, debootstrap and docker-compose (or Compose v2 as $COMPOSE). Debian, made by
debootstrap, stands in for the official images under their names: what is tried is this project's part of it, not
theirs. A clean copy of the project is built, brought up healthy, taken through one date twice, and taken down. The
engine, its data and its mounts lie in a scratch folder, and are gone at the end, however that came about; with --keep
its images stay in FOLDER, for the next time.
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
DOCKER = "/usr/bin/docker"  # Debian's: another one on PATH may have been made for another engine
PACKAGES = "ca-certificates,make,postgresql,python3,python3-pip,wget"
# How this machine reaches its package index goes into the stand-ins, and is gone with them.
INDEX = re.compile(r"(PIP|UV)_.*(INDEX|CERT|LINKS).*|SSL_CERT_FILE|(HTTPS?|NO)_PROXY", re.IGNORECASE)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DAY = "2024-01-20"


class TestError(RuntimeError):
    """What did not hold, and what was said."""


def say(text: str) -> None:
    print(f"compose-test: {text}", flush=True)


def missing() -> list[str]:
    """What this machine lacks."""
    needs = {"dockerd": "docker.io", DOCKER: "docker.io", "debootstrap": "debootstrap"}
    lacks = {package for program, package in needs.items() if not shutil.which(program)}
    if not shutil.which(os.environ.get("COMPOSE", "docker-compose")):
        lacks.add("docker-compose")
    return (["root"] if os.geteuid() else []) + [f"Debian's package {package}" for package in sorted(lacks)]


def run(*command: object, environment: dict | None = None, check: bool = True, folder: Path | None = None) -> str:
    """Run a command and give all that it said; that is in the error too where it failed."""
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
    """A dockerd of our own; yields the environment that leads to it. No iptables, no bridge: nothing of the host's."""
    scratch.mkdir(exist_ok=True)
    address = f"unix://{scratch}/docker.sock"
    command = ["dockerd", "--iptables=false", "--bridge=none", "--storage-driver=overlay2",
               "--data-root", scratch / "data", "--exec-root", scratch / "exec", "-p", scratch / "pid", "-H", address]
    with (scratch / "dockerd.log").open("w") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603
    try:
        environment = {"DOCKER_HOST": address, "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
        until("the engine", lambda: "Server Version" in run(DOCKER, "info", environment=environment, check=False), 60,
              lambda: daemon.poll() is not None and (scratch / "dockerd.log").read_text()[-3000:])
        yield environment
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(timeout=120)
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(f"{scratch}/"):
                run("umount", line.split()[1], check=False)
        if left := left_of(scratch):
            raise TestError(f"the engine left behind: {left}")


def left_of(scratch: Path) -> list[str]:
    """Mounts below the scratch folder, and processes that name it."""
    found = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.append(file.read_text(errors="replace").replace("\0", " "))
    return [text for text in found if f"{scratch}/" in text]


def until(what: str, holds: Callable[[], bool], seconds: float, ended: Callable[[], object]) -> None:
    """Wait for it, no longer than so many seconds; `ended` says why it will never come."""
    deadline = time.monotonic() + seconds
    while not holds():
        why = ended()
        if why or time.monotonic() > deadline:
            raise TestError(f"{what} did not come within {seconds} s: {why or 'no reason known'}")
        time.sleep(0.5)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def copy_project(folder: Path) -> None:
    """What a clone has: no .env, no environments, nothing landed."""
    listed = run("git", "-C", PROJECT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)


def official_images() -> dict[str, str]:
    """The official image that each kind of stand-in takes the name of."""
    text = "".join((PROJECT / name).read_text() for name in ("docker-compose.yaml", "docker/Dockerfile"))
    kinds = {"python": r"FROM (python:\S+)", "postgres": r"image: (postgres:\S+)", "pgadmin": r"image: (dpage/\S+)"}
    return {kind: re.search(pattern, text)[1] for kind, pattern in kinds.items()}


def make_stand_ins(scratch: Path, environment: dict) -> None:
    """Debian as a base image, unless it is there, and the stand-ins for the official images upon it."""
    if not run(DOCKER, "images", "-q", "landing-stand-in", environment=environment).strip():
        make_debian(scratch, environment)
    for kind, name in official_images().items():
        run(DOCKER, "build", "-q", "--target", kind, "-t", name, STAND_INS, environment=environment)


def make_debian(scratch: Path, environment: dict) -> None:
    """A minimal Debian, which trusts and fetches as this machine does, as the image landing-stand-in."""
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
    """The services of a copied project, by Compose."""

    def __init__(self, folder: Path, environment: dict) -> None:
        self.folder = folder
        self.environment = {**environment, "COMPOSE_PROJECT_NAME": "landing-test"}
        self.ports = dict(zip(("SOURCE_POSTGRES", "TARGET_POSTGRES", "AIRFLOW", "PGADMIN"), free_ports(4), strict=True))
        # What has a meaning in URLs, in libpq's password file and in shells.
        self.password = f"p:w@d/%41'{secrets.token_hex(8)}"

    def write_env(self) -> None:
        lines = [f"{side}_POSTGRES_PASSWORD={self.password}" for side in ("SOURCE", "TARGET")]
        lines += [f"{name}_PORT={port}" for name, port in self.ports.items()]
        (self.folder / ".env").write_text("\n".join([*lines, ""]))

    def compose(self, *arguments: str, check: bool = True, **variables: str) -> str:
        # The project's names are its own: none of the caller's may get in between.
        inherited = {name: "" for name in os.environ if name.startswith(("SOURCE_POSTGRES", "TARGET_POSTGRES"))}
        program = os.environ.get("COMPOSE", "docker-compose")
        said = run(program, *arguments, environment={**inherited, **self.environment, **variables}, check=check,
                   folder=self.folder)
        if self.password in said and arguments[0] != "config":
            raise TestError(f"the password is in what `compose {' '.join(arguments)}` said")
        return said

    def meltano(self, *arguments: str, **variables: str) -> str:
        return self.compose("--profile", "tools", "run", "--rm", "-T", "meltano", *arguments, **variables)

    def health(self, service: str) -> str:
        """Of its newest container: healthy, unhealthy, starting; nothing where there is none."""
        containers = self.compose("ps", "-q", service).split()
        if not containers:
            return ""
        return run(DOCKER, "inspect", "-f", "{{.State.Health.Status}}", containers[-1],
                   environment=self.environment).strip()

    def wait_healthy(self, service: str, seconds: float = 120) -> None:
        until(service, lambda: self.health(service) == "healthy", seconds,
              lambda: self.health(service) == "unhealthy" and self.compose("logs", "--tail=60", service))
        say(f"{service} is healthy")


def take_one_date(stack: Stack) -> list[str]:
    """Extract both sources, load, and prove; gives the lines of the proof."""
    said = [stack.meltano("run", "extract_postgres", "extract_csv", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY),
            stack.meltano("run", "load_to_postgres", MELTANO_ENVIRONMENT="load", EXTRACTED_AT=DAY)]
    proof = stack.meltano("invoke", "landing", "verify", DAY)
    lines = re.findall(r"^(?:postgres|csv) .*$", proof, re.MULTILINE)
    if len(lines) != 14 or not all(line.rstrip().endswith("yes") for line in lines):
        raise TestError(f"{DAY} is not proved:\n{''.join(said)[-3000:]}{proof}")
    return [line.rstrip() for line in lines]


def try_stack(stack: Stack, without: list[str]) -> None:
    """Without a password nothing starts; with one, a date is landed, loaded and proved, twice."""
    said = stack.compose("config", "-q", check=False)
    if "SOURCE_POSTGRES_PASSWORD is not set" not in said:
        raise TestError(f"without a password Compose should have refused and named it: {said}")
    stack.write_env()
    for target in (target for target in ("project", "airflow") if target not in without):
        image = f"landing-{target}"
        started = time.monotonic()
        run(DOCKER, "build", "--network=host", "--target", target, "-t", image, "-f", "docker/Dockerfile", ".",
            environment=stack.environment, folder=stack.folder)
        say(f"built {image} in {time.monotonic() - started:.0f} s")
    found = run(DOCKER, "run", "--rm", "--network=none", image, "sh", "-c", "id -u; ls -A",
                environment=stack.environment).split()
    if found[0] == "0" or {".env", ".git", "tests"} & {*found}:
        raise TestError(f"the image runs as {found[0]}, and holds {found[1:]}")
    stack.compose("up", "-d")
    stack.wait_healthy("source")
    stack.wait_healthy("target")
    first = take_one_date(stack)
    say(f"{DAY}: {len(first)} tables proved")
    if take_one_date(stack) != first:
        raise TestError("the second run of the date changed it")
    say(f"{DAY} again: the same {len(first)} tables, by rows, bytes and SHA-256")


def try_pgadmin(stack: Stack) -> None:
    """The stand-in opens both registered servers by the password file, else it ends and is never healthy."""
    stack.compose("--profile", "inspect", "up", "-d")
    stack.wait_healthy("pgadmin")


def try_airflow(stack: Stack) -> None:
    """The API server answers on the loopback, and the DAG takes the date to the end."""
    stack.compose("--profile", "airflow", "up", "-d")
    stack.wait_healthy("airflow", seconds=600)
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.ports['AIRFLOW']}/api/v2/version", timeout=10) as answer:
        say(f"airflow answers: {answer.read().decode().strip()}")
    said = stack.compose("exec", "-T", "airflow", ".venv/bin/meltano", "invoke", "airflow", "dags", "test",
                         "ELT_with_meltano", DAY)
    if "state=success" not in said:
        raise TestError(f"`airflow dags test` did not succeed:\n{said[-5000:]}")
    say("airflow dags test ELT_with_meltano: success")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", choices=["airflow"], action="append", default=[])
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="an absolute path, below which images are kept")
    arguments = parser.parse_args()
    if lacks := missing():
        sys.exit(f"compose-test needs {', '.join(lacks)}. Install with apt-get install --no-install-recommends.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("compose-test: told to end"))
    started = time.monotonic()
    with scratch_folder() as scratch, engine(arguments.keep or scratch) as environment:
        folder = scratch / "project"
        make_stand_ins(scratch, environment)
        say(f"made stand-ins for {', '.join(official_images().values())} in {time.monotonic() - started:.0f} s")
        copy_project(folder)
        stack = Stack(folder, environment)
        try:
            try_stack(stack, arguments.without)
            try_pgadmin(stack)
            if "airflow" not in arguments.without:
                try_airflow(stack)
        finally:
            if (folder / ".env").exists():
                stack.compose("--profile", "airflow", "--profile", "inspect", "--profile", "tools",
                              "down", "--volumes", "--timeout", "60", check=False)
    say(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except TestError as error:
        sys.exit(f"compose-test: {error}")
