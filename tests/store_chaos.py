"""The crash matrix on an object store: kill -9 of tap or target at every request of an extract: `make chaos`.

    plugins/.venv/bin/python tests/store_chaos.py [--every N] [--store fakes3|fakegcs|moto|azurite] [--out FILE.md]

Each program has a proxy of its own (disturber.py), which kills it before, midway or after one of its requests, while a
reader looks on. A case holds when

    the fault fired, and the run that it hit said so by its status;
    the reader saw the date as it was before or as it is afterwards, all tables together, and nothing else;
    the next ordinary run, without any step by hand, ends well, and the date is as after an undisturbed run;
    gc finds whatever is left, so that afterwards the store holds the date and its run logs and nothing else.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import warm
from chaos import (
    AFTER,
    AGAIN,
    BEFORE,
    CHANGE,
    DAY,
    FIRST,
    MAKE,
    MODES,
    RECOVERY,
    TAP_POSTGRES,
    TARGET_CSV,
    BrokenError,
    Reader,
    _expect,
)
from conftest import Project, Result, databases, running
from disturber import CUT, Disturber, Request
from disturber import MOMENTS as REQUEST_MOMENTS
from landing.model.naming import RUN_ID
from landing.zone.gc import ZoneLeftovers, removed
from landing.zone.landing_zone import LandingZone
from stores import SOUND, Store, Stores

PROGRAMS = (TAP_POSTGRES, TARGET_CSV)
PARTITION = f"source=postgres/extracted_at={DAY}"
LOGS = "_attempts/"


@dataclass(frozen=True)
class Case:
    """Kill a program at a moment of its request number `at`."""

    mode: str
    program: str
    at: int
    moment: str
    what: str

    def __str__(self) -> str:
        return f"{self.mode}: {self.program} {self.moment} request {self.at} ({self.what})"


class Killer:
    """A proxy's rule: notes each moment of each request, and kills the program at one of them."""

    def __init__(self, at: int | None = None, moment: str | None = None) -> None:
        self.passed: list[tuple[int, str, str]] = []
        self.fired: str | None = None
        self.process: subprocess.Popen | None = None
        self.started = threading.Event()
        self._at = at, moment

    def __call__(self, moment: str, request: Request) -> int | None:
        self.passed.append((request.number, moment, named(request)))
        if (request.number, moment) != self._at:
            return None
        self.started.wait(30)
        self.fired = named(request)
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        return CUT


def named(request: Request) -> str:
    """A request without what differs in each run."""
    text = re.sub(RUN_ID, "<run>", str(request))
    return re.sub(r" \S*/zone-[^/]*/", " ", text)


def whole(store: Store, root: str, partition: str) -> tuple[bytes, ...]:
    """Contents of the files that a date's manifest lists, as a reader finds them; none without a manifest.

    Raises:
        BrokenError: One is missing or has another hash, and no new manifest has taken the old one's place.
    """
    def content(key: str) -> bytes | None:
        try:
            return store.read(f"{root.split('/', 3)[3]}/{partition}/{key}")
        except FileNotFoundError:
            return None

    while (manifest := content("_manifest.json")) is not None:
        listed = [file for table in json.loads(manifest)["tables"] for file in table["files"]]
        found = [content(file["path"]) for file in listed]
        if [hashlib.sha256(one or b"").hexdigest() for one in found] == [file["sha256"] for file in listed]:
            return tuple(found)
        if manifest == content("_manifest.json"):
            raise BrokenError(f"the manifest lists {listed}, found {found}")
    return ()


def left_over(store: Store, root: str, partition: str) -> list[str]:
    """Keys besides a date's manifest, the files that it lists, and run logs."""
    found = store.content(root)
    manifest = f"{partition}/_manifest.json"
    listed = {file["path"] for table in json.loads(found[manifest])["tables"] for file in table["files"]}
    return [key for key in found
            if key not in {manifest, *(f"{partition}/{path}" for path in listed)} and not key.startswith(LOGS)]


class Stage:
    """A project whose landing zone begins each case in a prefix of its own, as one of the saved states."""

    def __init__(self, folder: Path, make, store: Store) -> None:
        self.store, self.make = store, make
        self.source, self.changed = make("source"), make("source")
        for database in (self.source, self.changed):
            database.run(MAKE)
        self.changed.run(CHANGE)
        self.project = Project(folder, self.source, make("warehouse"))
        self.saved: dict[str, dict[str, bytes]] = {}
        self.begin()

    def begin(self, name: str | None = None) -> None:
        """A landing zone of its own, empty or as it was saved."""
        self.root = self.store.url()
        self.prefix = self.root.split("/", 3)[3] + "/"
        for key, content in self.saved.get(name, {}).items():
            self.store.put(self.prefix + key, content)

    def save(self, name: str) -> None:
        """Keep the landing zone as it is."""
        self.saved[name] = {key: self.store.read(self.prefix + key) for key in self.keys()}

    def keys(self) -> list[str]:
        return [key.removeprefix(self.prefix) for key in self.store.keys(self.prefix)]

    def extract(self, **killers: Killer) -> Result:
        """One run, each program through its own proxy."""
        commands = {TAP_POSTGRES: self.project.tap_postgres(), TARGET_CSV: self.project.target_csv()}
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(tempfile.TemporaryFile("w+"))
            started, sent = {}, None
            for program, command in commands.items():
                proxy = stack.enter_context(Disturber(self.store))
                killer = proxy.rule = killers.get(program) or Killer()
                environment = self.project.environment(
                    MELTANO_PROJECT_ROOT=str(self.project.folder), LANDING_ROOT=self.root, DATESTAMP=DAY,
                    REEXTRACT="true", **self.store.environment(proxy.port))
                started[program] = killer.process = warm.Plugin(
                    command, cwd=self.project.folder, env=environment, stderr=log, stdin=sent,
                    stdout=subprocess.PIPE if program == TAP_POSTGRES else subprocess.DEVNULL)
                killer.started.set()
                sent = started[TAP_POSTGRES].stdout
            sent.close()
            status = started[TARGET_CSV].wait(60) or started[TAP_POSTGRES].wait(60)
            started[TAP_POSTGRES].wait(60)
            log.seek(0)
            return Result(commands, status, "", log.read())

    def landed(self) -> tuple[bytes, ...]:
        """Contents of the date's files; none where it is not landed."""
        return whole(self.store, self.root, PARTITION)

    def swept(self) -> list[str]:
        """What is left over after gc has removed all that it finds."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.store.environment().items():
                patch.setenv(name, value)
            failed = [wrong for _, wrong in removed(ZoneLeftovers(LandingZone.at(self.root), older_than=0)) if wrong]
        _expect(not failed, f"gc: {failed}")
        return left_over(self.store, self.root, PARTITION)


class Matrix:
    """All cases, in order, and how each ended."""

    def __init__(self, stage: Stage, every: int = 1) -> None:
        """`every`: only every so-manieth case."""
        self.stage, self.every = stage, every
        self.held: list[tuple[Case, str]] = []  # the case, and the state that it left
        self.failed: list[tuple[Case, str]] = []
        self.unfired = 0

    def prepare(self) -> None:
        """The states that cases begin with, and what is to be seen before and after."""
        stage = self.stage
        self._ordinary()
        old = stage.landed()
        stage.save(AGAIN)
        stage.project.source = stage.changed
        before = {number: what for number, moment, what in self._moments(AGAIN, TARGET_CSV) if moment == BEFORE}
        self.new = stage.landed()
        self.before = {FIRST: (), AGAIN: old, RECOVERY: old}
        at = max(number for number, what in before.items() if what.startswith(f"PUT {PARTITION}/_manifest.json"))
        stage.begin(AGAIN)
        stage.extract(**{TARGET_CSV: Killer(at, BEFORE)})
        _expect(stage.landed() == old, "the put of the manifest is not the last moment of the old date")
        stage.save(RECOVERY)

    def _ordinary(self) -> None:
        result = self.stage.extract()
        _expect(result.returncode == 0, result.stderr[-1500:])

    def _moments(self, mode: str, program: str) -> list[tuple[int, str, str]]:
        """What a program passes in an ordinary run."""
        self.stage.begin(mode)
        self.stage.extract(**{program: (killer := Killer())})
        return sorted(killer.passed, key=lambda one: (one[0], REQUEST_MOMENTS.index(one[1])))

    def cases(self) -> Iterator[Case]:
        """Each moment of each request of each program in each mode."""
        for mode, program in itertools.product(MODES, PROGRAMS):
            for at, moment, what in self._moments(mode, program):
                yield Case(mode, program, at, moment, what)

    def run(self, say=print) -> None:
        """All of them."""
        started = time.monotonic()
        chosen = [*self.cases()][::self.every]
        for number, case in enumerate(chosen, 1):
            try:
                self._case(case)
            except (BrokenError, AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as error:
                self.failed.append((case, str(error)[-1500:]))
                say(f"FAILED {case}: {error}")
            if number % 20 == 0:
                say(f"{number} of {len(chosen)} cases, {len(self.failed)} failed, {time.monotonic() - started:.0f} s")

    def _case(self, case: Case) -> None:
        stage, before = self.stage, self.before[case.mode]
        stage.begin(case.mode)
        killer = Killer(case.at, case.moment)
        with Reader(stage.landed) as reader:
            result = stage.extract(**{case.program: killer})
            if not killer.fired:
                self.unfired += 1  # requests of threads come in another order each time, and a few more or less
                return
            left = stage.landed()
            _expect(left in (before, self.new), f"neither the old date nor the new one is there: {left}")
            _expect(result.returncode, "it ended with status 0")
            self._ordinary()
        odd = reader.seen - {before, self.new}
        _expect(not odd, f"a reader saw neither the old date nor the new one: {odd}")
        _expect(stage.landed() == self.new, "the next run is not as an undisturbed one")
        _expect(not (more := stage.swept()), f"gc leaves {more}")
        self.held.append((case, AFTER if left == self.new else BEFORE))


def table(matrix: Matrix) -> str:
    """The cases that held, as Markdown: requests of one name together."""
    groups: dict[tuple[str, str, str], collections.Counter] = collections.defaultdict(collections.Counter)
    for case, left in matrix.held:
        what = re.sub(r"public-(orders|notes|late)", "<table>", case.what)
        groups[case.program, what, case.moment][left] += 1
    lines = ["| killed | moment | of the request | the date then is as | cases |", "|---|---|---|---|---|"]
    lines += [f"| {program} | {moment} | `{what}` | {' or '.join(sorted(left, reverse=True))} | {left.total()} |"
              for (program, what, moment), left in sorted(groups.items())]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def staged(server, store: Store, folder: Path) -> Iterator[Stage]:
    """A stage with databases of its own."""
    with databases(server) as make:
        yield Stage(folder, make, store)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every so-manieth case")
    parser.add_argument("--store", choices=SOUND, default="fakes3")
    parser.add_argument("--out", type=Path, help="write the table of cases there")
    arguments = parser.parse_args()
    folder, stores = Path(tempfile.mkdtemp(prefix="store-chaos-")), Stores()
    with contextlib.closing(warm.Server()), running() as server:
        try:
            with staged(server, stores[arguments.store], folder) as stage:
                matrix = Matrix(stage, arguments.every)
                matrix.prepare()
                matrix.run(lambda line: print(line, flush=True))
        finally:
            stores.stop()
            shutil.rmtree(folder, ignore_errors=True)
    text = table(matrix)
    if arguments.out:
        arguments.out.write_text(text)
    print(text)
    print(f"{len(matrix.held)} cases hold, {len(matrix.failed)} do not, in {matrix.unfired} nothing was reached.")
    sys.exit(bool(matrix.failed))


if __name__ == "__main__":
    main()
