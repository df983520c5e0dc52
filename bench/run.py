"""Us and the peers in turn, on the same data: `make bench`.

    bench/.venv/bin/python bench/run.py
    bench/.venv/bin/python bench/run.py --all
    bench/.venv/bin/python bench/run.py --only landing,psql2 --rows 6000000,60000000 --rounds 1 --name large
    bench/.venv/bin/python bench/run.py --only landing --tables 10000 --rows 0 --rounds 1 --name tables
    bench/.venv/bin/python bench/run.py --render FILE.json

Writes DATE[-NAME].json after every measurement anew, .md and .svg at the end; --render makes them of what ended early.
Exits non-zero when anybody failed; who, and why, is in the report.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import disk
import host
import options
import report
from contestant import EXTRACT, LOAD_KEY, VERIFY, Contestant
from data import Data
from databases import ROOT, Databases
from measure import FailedError
from plan import Plan, Progress, Step

HERE = Path(__file__).resolve().parent


class Benchmark:
    """Runs a plan, and keeps what each measurement cost."""

    def __init__(self, plan: Plan, path: Path, limit: float | None) -> None:
        self.plan, self.path, self.limit = plan, path, limit
        self.progress, self.started = Progress(plan), time.monotonic()
        self.dropped: set[tuple[str, str]] = set()  # contestant and data set
        self.result = {"date": f"{date.today()}", "sizes": [*plan.sizes], "rounds": plan.rounds, "minutes": 0.0,
                       "machine": host.describe(), "contestants": {one.name: one.settings for one in plan.who},
                       "runs": []}

    def run(self, folder: Path) -> None:
        """All of it, on a server of its own below `folder`."""
        for peer in sorted({one.peer for one in self.plan.who} - {None}):
            install(peer)
        databases = Databases(folder / "postgres", max(self.plan.tables, default=1))
        try:
            self.result["machine"] |= host.server(databases)
            contestants = {kind: kind(databases, folder) for kind in self.plan.who}
            for data in self.plan.datasets:
                self._make(databases, data)
            for step in self.plan.steps():
                self._measure(step, contestants[step.who])
        finally:
            databases.remove()

    def _make(self, databases: Databases, data: Data) -> None:
        before = time.monotonic()
        databases.make(data, self.plan.without_key(data))
        self.progress.add(self.plan.making(data))
        self._say(f"made {data.name}: {data.rows:,} rows, {time.monotonic() - before:.1f} s")

    def _measure(self, step: Step, one: Contestant) -> None:
        """One measurement; none of a contestant that failed with these data."""
        self.progress.add(step.guess)
        if (one.name, step.data.name) in self.dropped:
            return
        run = {"round": step.round, "data": step.data.name, "rows": step.data.rows, "phase": step.phase,
               "contestant": one.name}
        one.limit = self.limit or 600 + step.data.rows / 20_000 + step.data.tables / 10
        try:
            run |= timed(one, step.phase, step.data, LOAD_KEY in self.plan.phases)
            outcome = f"{run['seconds']:8.2f} s"
        except (FailedError, OSError) as error:
            run["failed"] = str(error)
            self.dropped.add((one.name, step.data.name))
            outcome = f"FAILED: {str(error).splitlines()[-1]}"
        self._say(f"round {step.round}/{self.plan.rounds}  {step.data.name:17} {step.phase:9} {one.name:32} {outcome}")
        self.result["runs"].append(run)
        self._write()

    def _say(self, text: str) -> None:
        print(time.strftime("%H:%M:%S"), self.progress, "", text, flush=True)

    def _write(self) -> None:
        self.result["minutes"] = round((time.monotonic() - self.started) / 60, 1)
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(self.result, indent=1, ensure_ascii=False) + "\n")
        temporary.replace(self.path)


def timed(one: Contestant, phase: str, data: Data, loaded: bool) -> dict:
    """What one phase of one contestant cost; the preparation and the check after it are not counted.

    `loaded`: a verification finds what it verifies.
    """
    key = phase == LOAD_KEY
    if phase == EXTRACT:
        one.before_extract(data)
    elif phase != VERIFY:
        one.before_load(data, key)
    elif not loaded:
        one.before_load(data, True)
        one.load(data, True)
    one.databases.settle()
    os.sync()
    if phase == EXTRACT:
        cost = one.extract(data)
        one.extracted.add(data.name)
    elif phase == VERIFY:
        cost = one.verify(data)
    else:
        cost = one.load(data, key)
        one.check(data)
    return {**vars(cost), "bytes": one.size(data, phase)}


def install(peer: str) -> None:
    """An environment of its own for each peer, from its pinned requirements."""
    environment, pinned = HERE / ".venvs" / peer, HERE / "peers" / peer / "requirements.txt"
    ready = environment / "ready"
    if ready.exists() and ready.stat().st_mtime > pinned.stat().st_mtime:
        return
    print(f"installing {peer} into bench/.venvs/{peer}", flush=True)
    uv = shutil.which("uv") or ROOT / ".boot/bin/uv"
    python = environment / "bin/python"
    for words in (["venv", "-q", "--allow-existing", "--python", sys.executable, environment],
                  ["pip", "install", "-q", "--no-deps", "--require-hashes", "--compile-bytecode", "--python", python,
                   "-r", pinned]):
        subprocess.run([uv, *words], check=True)
    ready.touch()


def main() -> None:
    given = options.arguments(__doc__)
    if given.render:
        sys.exit(report.write(given.render))
    plan = options.planned(given)
    try:
        disk.check(plan, Path(tempfile.gettempdir()))
    except disk.DiskError as error:
        sys.exit(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / options.file_name(given)
    folder = Path(tempfile.mkdtemp(prefix="landing-bench-"))
    folder.chmod(0o755)  # the server may run as somebody else
    try:
        Benchmark(plan, path, given.limit).run(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(report.write(path))


if __name__ == "__main__":
    main()
