"""The crash matrix: kill -9 at every boundary that failpoints.py knows, then the next ordinary run: `make chaos`.

    plugins/.venv/bin/python tests/chaos.py [--every N] [--kill self|backend|meltano] [--out FILE.md]

One date of a small source is landed and loaded. Each case kills one process at one boundary of one of the two runs,
while a reader looks on. It holds when

    the fault fired, and the run that it hit said so by its status;
    the reader saw the date as it was before or as it is afterwards, all tables together, and nothing else;
    every manifest that is there is whole, and lists files that are there with the hashes that it names;
    the next ordinary run, without any step by hand, ends well, and `landing verify` proves the date.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import itertools
import json
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import warm
from conftest import ROOT, Project, Result, databases
from failpoints import BACKEND, PARENT, SELF
from servers import Server

DAY = "2024-01-20"
TAP_POSTGRES, TARGET_CSV, TAP_CSV, TARGET_POSTGRES = PLUGINS = (
    "landing-tap-postgres", "landing-target-csv", "landing-tap-csv", "landing-target-postgres")
EXTRACT, LOAD = "extract", "load"
RUNS = {EXTRACT: (TAP_POSTGRES, TARGET_CSV), LOAD: (TAP_CSV, TARGET_POSTGRES)}
FIRST, AGAIN, RECOVERY = MODES = "first run", "run of a date that is there", "run that recovers"
LAST_MOMENT = {EXTRACT: "rename _manifest.json", LOAD: "SQL COMMIT"}  # before a date is replaced
BEFORE, AFTER = "before", "after"

MAKE = """
CREATE TABLE orders (id integer PRIMARY KEY, customer text, freight numeric(9,2));
INSERT INTO orders SELECT g, 'c' || g % 7, g / 4.0 FROM generate_series(1, 200) g;
CREATE TABLE notes (id integer, note text);
INSERT INTO notes SELECT g % 10, 'n' FROM generate_series(1, 40) g
"""
CHANGE = """
UPDATE orders SET customer = 'new' WHERE id < 20;
DELETE FROM notes WHERE id = 3;
CREATE TABLE late (x integer)
"""
VIEWS = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v' ORDER BY 1"
HOOKED = """#!{python}
import sys
from pathlib import Path
sys.path.append({tests!r})
import failpoints, warm
program = Path(sys.argv[0]).name
failpoints.install(program)
sys.exit(warm.COMMANDS[program].load()())
"""
LOOK = "(SELECT md5(string_agg(t::text, ';' ORDER BY t::text)) FROM public.{} t)"


@dataclass(frozen=True)
class Case:
    """Kill `kill` when `program` reaches its boundary `at`, called `what` when it was counted."""

    run: str
    mode: str
    program: str
    at: int
    what: str
    kill: str

    def __str__(self) -> str:
        return f"{self.run}, {self.mode}: {self.kill} of {self.program} at {self.at} ({self.what})"


class BrokenError(Exception):
    """A case that does not hold."""


class Reader:
    """Looks at what a run changes, all the time, as those do who know nothing of it."""

    def __init__(self, look: Callable[[], object]) -> None:
        self.seen: set[object] = set()
        self._look = look
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look_on)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._end.is_set():
            try:
                self.seen.add(self._look())
            except BrokenError as error:
                self.seen.add(str(error))
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                pass  # with a killed backend goes every other
            self._end.wait(0.005)


class Stage:
    """A project whose landing zone and warehouse can be put back to any of the states that cases begin with."""

    def __init__(self, folder: Path, server: Server, make) -> None:
        self.server = server
        self.source, self.changed = make("source"), make("source")
        for database in (self.source, self.changed):
            database.run(MAKE)
        self.changed.run(CHANGE)
        self.project = Project(folder, self.changed, make("warehouse"))
        meltano = self.project.folder / "meltano.yml"
        before, after = meltano.read_text().split("- name: extract_csv\n", 1)
        text = before + after.split("- tap-csv target-csv\n", 1)[1]  # one source is declared
        hooked = re.sub(r"- name: (\S+)\n    variant: landing\n", r"\g<0>    executable: hooked/landing-\1\n", text)
        meltano.write_text(hooked)
        for program in PLUGINS:  # Meltano lets no variable through that could bring the failpoints in
            path = self.project.folder / "hooked" / program
            path.parent.mkdir(exist_ok=True)
            path.write_text(HOOKED.format(python=ROOT / "plugins/.venv/bin/python", tests=str(ROOT / "tests")))
            path.chmod(0o700)
        self.saved = folder / "saved"

    # States

    def save(self, name: str) -> None:
        """Keep the landing zone and the warehouse as they are, to begin cases with."""
        if self.project.output.exists():
            shutil.copytree(self.project.output, self.saved / name)
        self._admin(f"CREATE DATABASE {self._template(name)} TEMPLATE {self.project.warehouse.name} STRATEGY file_copy")

    def restore(self, name: str) -> None:
        """Put both back."""
        shutil.rmtree(self.project.output, ignore_errors=True)
        if (self.saved / name).exists():
            shutil.copytree(self.saved / name, self.project.output)
        warehouse = self.project.warehouse.name
        self._admin(f"DROP DATABASE IF EXISTS {warehouse} WITH (FORCE)",
                    f"CREATE DATABASE {warehouse} TEMPLATE {self._template(name)} STRATEGY file_copy")

    def _admin(self, *statements: str) -> None:
        self.project.warehouse.connection.close()
        with contextlib.closing(self.server.connect("postgres")) as connection:
            connection.autocommit = True
            for statement in statements:
                connection.cursor().execute(statement)
        self.project.warehouse.connection = self.project.warehouse.connect()

    def _template(self, name: str) -> str:
        return f"{self.project.warehouse.name}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    # Runs

    def run(self, run: str, fault: dict | None = None, *, check: bool = True) -> Result:
        """One run, through the pipe that Meltano would make."""
        variables = {"FAULT": json.dumps(fault)} if fault else {}
        if run == EXTRACT:
            return self.project.land(DAY, "postgres", check=check, REEXTRACT="true", **variables)
        tap = self.project.tap_landed(sources=["postgres"])
        return self.project.pipe(tap, self.project.target_postgres(), check, EXTRACTED_AT=DAY, **variables)

    def meltano(self, run: str, fault: dict) -> Result:
        """One run by Meltano itself, its plugins told of the fault by their environment."""
        job, variables = {EXTRACT: ("extract_postgres", {"MELTANO_ENVIRONMENT": "extract", "DATESTAMP": DAY,
                                                         "REEXTRACT": "true"}),
                          LOAD: ("load_to_postgres", {"MELTANO_ENVIRONMENT": "load", "EXTRACTED_AT": DAY})}[run]
        variables |= {"FAULT": json.dumps(fault)}
        # --force: for five minutes Meltano takes one of its own that was killed for being at work.
        result = self.project.meltano("run", "--force", job, check=False, **variables)
        while self._at_work():  # its plugins outlive it for a moment
            time.sleep(0.05)
        return result

    def _at_work(self) -> bool:
        folder = str(self.project.folder).encode()
        return any(folder in (_content(path) or b"") for path in Path("/proc").glob("[0-9]*/cmdline"))

    def boundaries(self, run: str, program: str) -> list[str]:
        """What a program passes in an ordinary run, in order."""
        log = self.project.folder / "boundaries.jsonl"
        log.unlink(missing_ok=True)
        self.run(run, {"in": program, "log": str(log)})
        return [json.loads(line)["what"] for line in log.read_text().splitlines()]

    # What is there

    def loaded(self) -> tuple:
        """What a reader finds in all views, by one statement: their names, and a hash of each one's rows."""
        with contextlib.closing(self.project.warehouse.connect()) as connection, connection.cursor() as cursor:
            names = None
            while names != (names := self._views(cursor)) and names:
                cursor.execute("SELECT " + ", ".join(map(LOOK.format, names)))
                hashes = cursor.fetchone()
            return (names, hashes) if names else ()

    @staticmethod
    def _views(cursor: Any) -> tuple[str, ...]:
        cursor.execute(VIEWS)
        return tuple(name for name, in cursor.fetchall())

    def landed(self) -> tuple:
        """Hashes of the date's files, once each that the manifest lists is seen to be there and to be whole."""
        path = self.project.manifest_path("postgres", DAY)
        while (manifest := _content(path)) is not None:
            files = [file for table in json.loads(manifest)["tables"] for file in table["files"]]
            there = [hashlib.sha256(_content(path.parent / file["path"]) or b"").hexdigest() for file in files]
            if there == [file["sha256"] for file in files]:
                return tuple(there)
            if manifest == _content(path):  # else a new one has taken its place, and its files theirs
                raise BrokenError(f"{path} lists {files}, found {there}")
        return ()

    def state(self, run: str) -> tuple:
        """What a run changes, as it is now."""
        return self.landed() if run == EXTRACT else self.loaded()


class Matrix:
    """All cases, in order, and how each ended."""

    def __init__(self, stage: Stage, every: int = 1, kill: str | None = None) -> None:
        """`every`: only every so-manieth case; `kill`: only cases of that victim."""
        self.stage, self.every, self.kill = stage, every, kill
        self.held: list[tuple[Case, str, str]] = []  # the case, the boundary that fired, the state it left
        self.failed: list[tuple[Case, str]] = []
        self.unfired = 0

    def prepare(self) -> None:
        """The states that cases begin with, and what is to be seen before and after."""
        stage = self.stage
        stage.save(f"{EXTRACT}, {FIRST}")
        stage.project.source = stage.source
        stage.run(EXTRACT)
        stage.run(LOAD)
        old = {run: stage.state(run) for run in RUNS}
        stage.project.source = stage.changed
        stage.save(f"{EXTRACT}, {AGAIN}")
        stage.run(EXTRACT)
        stage.save(f"{LOAD}, {AGAIN}")
        stage.run(LOAD)
        self.new = {run: stage.state(run) for run in RUNS}
        self.before = {(run, mode): () if mode == FIRST else old[run] for run in RUNS for mode in MODES}
        stage.restore(f"{EXTRACT}, {FIRST}")
        stage.run(EXTRACT)
        stage.save(f"{LOAD}, {FIRST}")
        for run, last in LAST_MOMENT.items():  # a run that was killed then is what the next one has to recover from
            stage.restore(f"{run}, {AGAIN}")
            program = RUNS[run][1]
            passed = stage.boundaries(run, program)
            stage.restore(f"{run}, {AGAIN}")
            at = max(number for number, what in enumerate(passed) if what == last)
            stage.run(run, self._fault(program, at, SELF), check=False)
            _expect(stage.state(run) == old[run], f"{last} of {program} is not the last moment of the old date")
            stage.save(f"{run}, {RECOVERY}")

    def cases(self) -> Iterator[Case]:
        """Each boundary of each program in each mode; backends, where there is one; Meltano, at a few."""
        for run, mode in itertools.product(RUNS, MODES):
            for program in RUNS[run]:
                self.stage.restore(f"{run}, {mode}")
                for at, what in enumerate(self.stage.boundaries(run, program)):
                    yield Case(run, mode, program, at, what, SELF)
                    if what.startswith("SQL") and mode != RECOVERY:
                        yield Case(run, mode, program, at, what, BACKEND)
                    if mode == AGAIN and at % 12 == 5:
                        yield Case(run, mode, program, at, what, PARENT)

    def run(self, say=print) -> None:
        """All of them."""
        started = time.monotonic()
        chosen = [case for case in self.cases() if self.kill in (None, case.kill)][::self.every]
        for number, case in enumerate(chosen, 1):
            try:
                self._case(case)
            except (BrokenError, AssertionError, OSError, ValueError, psycopg2.Error) as error:
                self.failed.append((case, str(error)[-1500:]))
                say(f"FAILED {case}: {error}")
            if number % 20 == 0:
                say(f"{number} of {len(chosen)} cases, {len(self.failed)} failed, {time.monotonic() - started:.0f} s")

    def _fault(self, program: str, at: int, kill: str) -> dict:
        log = self.stage.project.folder / "fired.jsonl"
        log.unlink(missing_ok=True)
        return {"in": program, "log": str(log), "at": at, "kill": kill}

    def _case(self, case: Case) -> None:
        stage, before, after = self.stage, self.before[case.run, case.mode], self.new[case.run]
        stage.restore(f"{case.run}, {case.mode}")
        fault = self._fault(case.program, case.at, case.kill)
        with Reader(lambda: stage.state(case.run)) as reader:
            result = stage.meltano(case.run, fault) if case.kill == PARENT else stage.run(case.run, fault, check=False)
            if not Path(fault["log"]).exists():
                self.unfired += 1  # threads pass boundaries in another order each time, and a few more or less of them
                return
            fired = json.loads(Path(fault["log"]).read_text().splitlines()[0])["what"]
            _await_server(stage)
            left = stage.state(case.run)
            _expect(left in (before, after), f"neither the old date nor the new one is there: {left}")
            # Whoever is killed when all is done, like a connection that is being closed, does not make a run fail.
            _expect(result.returncode or (case.kill == BACKEND and left == after), "it ended with status 0")
            for run in (EXTRACT, LOAD)[case.run == LOAD:]:
                stage.run(run)
        odd = reader.seen - {before, after}
        _expect(not odd, f"a reader saw neither the old date nor the new one: {odd}")
        _expect({run: stage.state(run) for run in RUNS} == self.new, "the next run is not as an undisturbed one")
        report = json.loads(stage.project.landing("verify", DAY, "--json").stdout)
        _expect(report and all(table["equal"] for table in report), f"verify: {report}")
        self.held.append((case, fired, AFTER if left == after else BEFORE))


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise BrokenError(otherwise)


def _await_server(stage: Stage) -> None:
    """A server whose backend was killed restarts by itself."""
    for _ in range(200):
        try:
            stage.project.warehouse.connect().close()
            break
        except psycopg2.OperationalError:
            time.sleep(0.05)


@contextlib.contextmanager
def staged() -> Iterator[Stage]:
    """A stage on a server of its own: a killed backend takes all others of its server along."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o755)
    server = Server(folder / "postgres", {"fsync": "off", "restart_after_crash": "on"})
    try:
        server.start()
        with databases(server) as make:
            yield Stage(folder / "project", server, make)
    finally:
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)


def table(matrix: Matrix) -> str:
    """The cases that held, as Markdown: boundaries of one name together."""
    counted = collections.Counter()
    for case, fired, left in matrix.held:
        boundary = "SQL SELECT" if fired.startswith(("SQL SELECT", "SQL WITH")) else fired
        boundary = re.sub(r"public-(orders|notes|late)", "<table>", boundary)
        counted[case.run, case.kill, case.program, boundary, left] += 1
    lines = ["| run | killed | at, in | the date then is as | cases |", "|---|---|---|---|---|"]
    groups: dict[tuple, dict[str, int]] = collections.defaultdict(dict)
    for (run, kill, program, fired, left), count in counted.items():
        groups[run, kill, program, fired][left] = count
    for (run, kill, program, fired), left in sorted(groups.items()):
        which = " or ".join(sorted(left, reverse=True))
        victim = {SELF: program, BACKEND: "PostgreSQL's backend", PARENT: "meltano"}[kill]
        lines.append(f"| {run} | {victim} | `{fired}`{'' if kill == SELF else f', {program}'} | {which} | "
                     f"{sum(left.values())} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every so-manieth case")
    parser.add_argument("--kill", choices=(SELF, BACKEND, PARENT), help="only cases in which that process is killed")
    parser.add_argument("--out", type=Path, help="write the table of cases there")
    arguments = parser.parse_args()
    with contextlib.closing(warm.Server()), staged() as stage:
        matrix = Matrix(stage, arguments.every, arguments.kill)
        matrix.prepare()
        matrix.run(lambda line: print(line, flush=True))
    text = table(matrix)
    if arguments.out:
        arguments.out.write_text(text)
    by_kind = collections.Counter((case.run, case.kill) for case, *_ in matrix.held)
    print(text, *(f"{run}, {kill}: {count}" for (run, kill), count in by_kind.items()), sep="\n")
    print(f"{len(matrix.held)} cases hold, {len(matrix.failed)} do not, in {matrix.unfired} nothing was reached.")
    sys.exit(bool(matrix.failed))


if __name__ == "__main__":
    main()
