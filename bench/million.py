"""One million rows of 16 columns, out and in: psql's \\copy, a trivial `meltano run` and ours, side by side.

    plugins/.venv/bin/python bench/million.py [--rows N] [--rounds N]

Every round runs each of them once, in turn, on a PostgreSQL of its own. What counts is the ratio: our `meltano run`
less the fixed cost of one that moves nothing, to psql. It is taken within each round, since a machine's speed drifts.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "demo"))

from servers import Server, find_binaries  # noqa: E402

DAY = "2024-01-20"
LIMIT = 1.3

# Shaped like TPC-H's lineitem.
TABLE = """
CREATE TABLE lineitem (
    l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber integer NOT NULL,
    l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL,
    l_tax numeric(15,2) NOT NULL, l_returnflag character(1) NOT NULL, l_linestatus character(1) NOT NULL,
    l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL,
    l_shipinstruct character(25) NOT NULL, l_shipmode character(10) NOT NULL, l_comment character varying(44) NOT NULL
)
"""
KEY = "ALTER TABLE lineitem ADD PRIMARY KEY (l_orderkey, l_linenumber)"
ROWS = """
INSERT INTO lineitem
SELECT g / 4 + 1, g * 7919 % 200000, g * 104729 % 10000, g % 4 + 1, g % 50 + 1, (g * 37 % 10000000) / 100.0,
       g % 11 / 100.0, g % 9 / 100.0, substr('ANR', (g % 3 + 1)::int, 1), substr('OF', (g % 2 + 1)::int, 1),
       date '1992-01-01' + (g % 2500)::int, date '1992-01-31' + (g % 2500)::int, date '1992-02-15' + (g % 2500)::int,
       (ARRAY['DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN'])[(g % 4 + 1)::int],
       (ARRAY['TRUCK', 'MAIL', 'REG AIR', 'SHIP', 'FOB'])[(g % 5 + 1)::int],
       'final requests about ' || substr(md5(g::text), 1, (g % 23)::int)
FROM generate_series(0::bigint, {}) g
"""

TRIVIAL = """#!{python}
from singer_sdk import Sink, Stream, Tap, Target
class Nothing(Stream):
    name, schema = "nothing", {{"type": "object", "properties": {{"id": {{"type": "integer"}}}}}}
    def get_records(self, context): return []
class TapNothing(Tap):
    name = "tap-nothing"
    def discover_streams(self): return [Nothing(self)]
class NoSink(Sink):
    def process_record(self, record, context): pass
    def process_batch(self, context): pass
class TargetNothing(Target):
    name, default_sink_class = "target-nothing", NoSink
{plugin}.cli()
"""
TRIVIAL_PLUGINS = """
  - name: tap-nothing
    namespace: tap_nothing
    executable: ./tap-nothing.py
    capabilities: [catalog, discover]
  loaders:
  - name: target-nothing
    namespace: target_nothing
    executable: ./target-nothing.py
"""


class Bench:
    """A server, a project, and a stopwatch."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.peaks = folder, {}
        self.server = Server(folder / "postgres", {"shared_buffers": "1GB", "max_wal_size": "8GB"})
        (folder / "postgres").mkdir()
        self.server.start()
        for name in ("source", "psql", "warehouse"):
            self.server.create_database(name)
        for statement in (TABLE, ROWS.format(rows - 1), KEY, "VACUUM ANALYZE lineitem"):
            self.psql("source", "-c", statement)
        self.project = self._project()
        self.csv = folder / "lineitem.csv"

    def _project(self) -> Path:
        project = self.folder / "project"
        project.mkdir()
        for name in (".venv", "plugins"):
            (project / name).symlink_to(ROOT / name)
        python = ROOT / "plugins/.venv/bin/python"
        for plugin, name in (("TapNothing", "tap-nothing"), ("TargetNothing", "target-nothing")):
            path = project / f"{name}.py"
            path.write_text(TRIVIAL.format(python=python, plugin=plugin))
            path.chmod(0o755)
        text = (ROOT / "meltano.yml").read_text()
        (project / "meltano.yml").write_text(text.replace("  loaders:\n", TRIVIAL_PLUGINS.lstrip("\n"), 1))
        server = self.server
        lines = [f"{role}_POSTGRES_{key}={value}" for role, database in (("SOURCE", "source"), ("TARGET", "warehouse"))
                 for key, value in {"HOST": server.host, "PORT": server.port, "DB": database, "USER": server.user,
                                    "PASSWORD": server.password, "SSLMODE": "disable"}.items()]
        (project / ".env").write_text("\n".join([*lines, "LANDING_ROOT=output"]) + "\n")
        return project

    def psql(self, database: str, *arguments: str) -> float:
        """Seconds that a psql took."""
        command = [find_binaries() / "psql", "-Xqv", "ON_ERROR_STOP=1", "-h", self.server.host,
                   "-p", str(self.server.port), "-U", self.server.user, database, *arguments]
        return self._timed(command, {"PGPASSWORD": self.server.password})

    def meltano(self, environment: str, *blocks: str, **variables: str) -> float:
        """Seconds that a `meltano run` took."""
        command = [self.project / ".venv/bin/meltano", "run", *blocks]
        return self._timed(command, {"MELTANO_ENVIRONMENT": environment, **variables})

    def _timed(self, command: list, variables: dict[str, str]) -> float:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | variables
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=self.folder if "psql" in str(command[0]) else self.project,
                                   env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        watcher = threading.Thread(target=self._watch, args=(process,))
        watcher.start()
        said, _ = process.communicate()
        seconds = time.monotonic() - started
        watcher.join()
        if process.returncode:
            sys.exit(f"{command[0]} failed:\n{said}")
        return seconds

    def _watch(self, process: subprocess.Popen) -> None:
        """Peak resident memory (MB) of each of our plugins, as the kernel keeps it."""
        while process.poll() is None:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    words = path.read_bytes().decode(errors="replace").split("\0")
                    plugin = next(Path(word).name for word in words if "/bin/landing-" in word)
                    status = (path.parent / "status").read_text()
                except (OSError, StopIteration):
                    continue
                peak = int(status.split("VmHWM:")[1].split()[0]) / 1024 if "VmHWM:" in status else 0
                self.peaks[plugin] = max(peak, self.peaks.get(plugin, 0))
            time.sleep(0.05)

    def round(self) -> dict[str, float]:
        """Each contestant once."""
        table = TABLE.replace("CREATE TABLE", "DROP TABLE IF EXISTS lineitem; CREATE TABLE")
        self.psql("psql", "-c", table)
        return {
            "trivial": self.meltano("extract", "tap-nothing", "target-nothing"),
            "psql_out": self.psql("source", "-c", f"\\copy lineitem TO '{self.csv}' (FORMAT csv, HEADER)"),
            "extract": self.meltano("extract", "extract_postgres", DATESTAMP=DAY, REEXTRACT="true"),
            "psql_in": self.psql("psql", "-c", f"\\copy lineitem FROM '{self.csv}' (FORMAT csv, HEADER)", "-c", KEY),
            "load": self.meltano("load", "load_to_postgres", EXTRACTED_AT=DAY, RELOAD="true",
                                 TAP_CSV_SOURCES='["postgres"]'),
        }


def report(rounds: list[dict[str, float]], peaks: dict[str, float], rows: int) -> str:
    """Medians as a Markdown table."""
    times = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    lines = [
        f"{rows:,} rows x 16 columns, medians of {len(rounds)} rounds; {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}.",
        f"Fixed cost of a trivial `meltano run` (tap and target of the Singer SDK, no rows): {times['trivial']:.2f} s.",
        "", f"| | psql | ours, whole run | ours less fixed, to psql (goal: {LIMIT}) | in the rounds |",
        "|---|---|---|---|---|",
    ]
    for ours, psql, what in (("extract", "psql_out", "extract"), ("load", "psql_in", "load, key after the data")):
        ratios = sorted((one[ours] - one["trivial"]) / one[psql] for one in rounds)
        lines.append(f"| {what} | {times[psql]:.2f} s | {times[ours]:.2f} s | {statistics.median(ratios):.2f} "
                     f"| {ratios[0]:.2f} to {ratios[-1]:.2f} |")
    lines += ["", "Peak memory: " + ", ".join(f"{name} {peak:.0f} MB" for name, peak in sorted(peaks.items())) + "."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="landing-bench-"))
    folder.chmod(0o755)
    bench = Bench(folder, arguments.rows)
    try:
        rounds = []
        for number in range(arguments.rounds):
            rounds.append(bench.round())
            print(f"round {number + 1}: " + ", ".join(f"{k} {v:.2f} s" for k, v in rounds[-1].items()), flush=True)
        print("\n" + report(rounds, bench.peaks, arguments.rows))
    finally:
        bench.server.remove()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
