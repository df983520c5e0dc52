"""Us and the peers in turn, on the same data: `make bench`.

    bench/.venv/bin/python bench/run.py [--short] [--only NAME,...] [--rounds N] [--rows N,...] [--out FOLDER]
    bench/.venv/bin/python bench/run.py --render FILE.json

Writes <date>.json after every run anew, .md and .svg at the end; --render makes them of what ended early. Exits
non-zero when anybody failed; who, and why, stands in the report.
"""

from __future__ import annotations

import argparse
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

import machine
import report
from contestant import EXTRACT, LOAD, LOAD_KEY, PHASES, Contestant
from contestants import EVERYBODY, SHORT, available
from data import EMPTY, OTHER_SHAPES, ROOT, SAMPLE, Data, Databases, lineitems
from measure import FailedError

HERE = Path(__file__).resolve().parent
EMPTY_RUNS = 3  # at least: start-up is taken off everything


class Benchmark:
    """Runs who takes part, and keeps what each run cost."""

    def __init__(self, names: list[str], sizes: list[int], rounds: int, short: bool, path: Path) -> None:
        self.names, self.sizes, self.rounds, self.path = names, sizes, rounds, path
        more = [] if short else [SAMPLE, *OTHER_SHAPES]
        self.datasets = [EMPTY, *more, *map(lineitems, sizes)]
        self.dropped: set[tuple[str, str]] = set()  # contestant and data set
        self.result = {"date": f"{date.today()}", "short": short, "sizes": sizes, "machine": machine.describe(),
                       "contestants": {EVERYBODY[name].name: EVERYBODY[name].settings for name in names}, "runs": []}

    def run(self, folder: Path) -> None:
        """All of it, on a server of its own below `folder`."""
        for peer in sorted({EVERYBODY[name].peer for name in self.names} - {None}):
            install(peer)
        databases = Databases(folder / "postgres")
        try:
            self.result["machine"] |= machine.server(databases)
            contestants = [EVERYBODY[name](databases, folder) for name in self.names]
            for data in self.datasets:
                if any(one.takes(data, phase) for one in contestants for phase in PHASES):
                    say(f"making {data.name}: {data.rows:,} rows")
                    databases.make(data)
            for number in range(1, self.rounds + 1):
                for data in self.datasets:
                    for _ in range(-(-EMPTY_RUNS // self.rounds) if data is EMPTY else 1):
                        self._round(number, data, contestants)
        finally:
            databases.remove()

    def _round(self, number: int, data: Data, contestants: list[Contestant]) -> None:
        """Each phase by each contestant in turn, so that those who are compared run close to each other."""
        for phase in PHASES:
            for one in contestants:
                last = 1 if one.slow else self.rounds
                if number <= last and one.takes(data, phase) and (one.name, data.name) not in self.dropped:
                    self._once(number, data, phase, one)

    def _once(self, number: int, data: Data, phase: str, one: Contestant) -> None:
        run = {"round": number, "data": data.name, "rows": data.rows, "phase": phase, "contestant": one.name}
        try:
            run |= timed(one, phase, data)
            outcome = f"{run['seconds']:8.2f} s"
        except (FailedError, OSError) as error:
            run["failed"] = str(error)
            self.dropped.add((one.name, data.name))
            outcome = f"FAILED: {error}"
        say(f"round {number}/{self.rounds}  {data.name:17} {phase:9} {one.name:27} {outcome}")
        self.result["runs"].append(run)
        self._write()

    def _write(self) -> None:
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(self.result, indent=1, ensure_ascii=False) + "\n")
        temporary.replace(self.path)


def timed(one: Contestant, phase: str, data: Data) -> dict:
    """What one phase of one contestant cost; the preparation and the check after it are not counted."""
    key = phase == LOAD_KEY
    if phase == EXTRACT:
        one.before_extract(data)
    else:
        one.before_load(data, key)
    one.databases.settle()
    os.sync()
    cost = one.extract(data) if phase == EXTRACT else one.load(data, key)
    if phase in (LOAD, LOAD_KEY):
        one.check(data, key)
    return {**vars(cost), "bytes": one.size(data, phase)}


def install(peer: str) -> None:
    """An environment of its own for each peer, from its pinned requirements."""
    environment, pinned = HERE / ".venvs" / peer, HERE / "peers" / peer / "requirements.txt"
    ready = environment / "ready"
    if ready.exists() and ready.stat().st_mtime > pinned.stat().st_mtime:
        return
    say(f"installing {peer} into bench/.venvs/{peer}")
    uv = shutil.which("uv") or ROOT / ".boot/bin/uv"
    python = environment / "bin/python"
    for words in (["venv", "-q", "--allow-existing", "--python", sys.executable, environment],
                  ["pip", "install", "-q", "--no-deps", "--require-hashes", "--compile-bytecode", "--python", python,
                   "-r", pinned]):
        subprocess.run([uv, *words], check=True)
    ready.touch()


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S "), text, flush=True)


def names(text: str) -> list[str]:
    """Those asked for, in our order."""
    asked = text.split(",")
    unknown = set(asked) - set(EVERYBODY)
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(EVERYBODY)}")
    return [name for name in EVERYBODY if name in asked]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="1 M rows, one round, psql, DuckDB and us")
    parser.add_argument("--only", type=names, metavar="NAME,...", help=", ".join(EVERYBODY))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--rows", type=lambda text: [*map(int, text.split(","))], metavar="N,...")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    parser.add_argument("--render", type=Path, metavar="FILE.json", help="only write the report of a result anew")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.render:
        sys.exit(report.write(given.render))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"{date.today()}{'-short' * given.short}.json"
    contestants = given.only or [name for name in available() if name in SHORT or not given.short]
    rows = given.rows or ([1_000_000] if given.short else [1_000_000, 6_000_000])
    benchmark = Benchmark(contestants, rows, given.rounds or (1 if given.short else 3), given.short, path)
    folder = Path(tempfile.mkdtemp(prefix="landing-bench-"))
    folder.chmod(0o755)  # the server may run as somebody else
    try:
        benchmark.run(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(report.write(path))


if __name__ == "__main__":
    main()
