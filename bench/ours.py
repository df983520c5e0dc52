"""Ours, and a `meltano run` that moves nothing."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import ClassVar

from contestant import EXTRACT, LOAD, LOAD_KEY, PHASES, Contestant
from data import EMPTY, LINEITEM, SALES, SAMPLE, Data
from databases import ROOT, TARGET, Databases
from measure import Cost, FailedError
from servers import write_private

DAY = "2024-01-20"
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
CSV_JOB = "- name: extract_csv\n  tasks:\n  - tap-csv target-csv\n"


class Landing(Contestant):
    """Ours: real `meltano run`s in a project of its own, and `landing verify`."""

    name = "landing"
    settings = "`meltano run extract_postgres`, `meltano run load_to_postgres`, `landing verify`, as they come"
    phases = PHASES
    variables: ClassVar[dict[str, str]] = {}
    prepared = False
    from_keyless = True
    twice = True
    start = 2.2

    @classmethod
    def takes(cls, data: Data, phase: str) -> bool:
        """Other shapes too, but they have no copy without a key."""
        return phase in cls.phases and data is not SAMPLE and data.shape is not SALES and (
            data.shape is LINEITEM or phase != LOAD)

    def out(self, data: Data, key: bool) -> Path:
        return self._project(data, key) / "output"

    def before_extract(self, data: Data) -> None:
        super().before_extract(data)
        self._ready(data, key=True)

    def before_load(self, data: Data, key: bool) -> None:
        super().before_load(data, key)
        self._ready(data, key)
        if not self._landed(data, key):  # the source without a key is landed once, and not timed
            self._extract(data, key)

    def _landed(self, data: Data, key: bool) -> bool:
        return self.out(data, key).exists()

    def extract(self, data: Data) -> Cost:
        return self._extract(data, key=True)

    def load(self, data: Data, key: bool) -> Cost:
        return self._meltano(data, key, "run", "load_to_postgres", MELTANO_ENVIRONMENT="load", EXTRACTED_AT=DAY)

    def verify(self, data: Data) -> Cost:
        return self._meltano(data, True, "invoke", "landing", "verify", DAY)

    def _extract(self, data: Data, key: bool) -> Cost:
        return self._meltano(data, key, "run", "extract_postgres", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY)

    def _meltano(self, data: Data, key: bool, *words: str, **variables: str) -> Cost:
        project = self._project(data, key)
        command = [project / ".venv/bin/meltano", *words]
        return self.run(command, database=data.database(key), folder=project, **self.variables, **variables)

    def _project(self, data: Data, key: bool) -> Path:
        return self.folder / data.database(key)

    def _ready(self, data: Data, key: bool) -> None:
        project = self._project(data, key)
        if not project.exists():
            make_project(project, self.databases, data.database(key))
            self._meltano(data, key, "run", "tap-nothing", "target-nothing")  # Meltano makes a database of its own


class LandingOne(Landing):
    name = "landing, 1 connection"
    settings = "as above, on one connection each way"
    variables: ClassVar = {"TAP_POSTGRES_CONNECTIONS": "1", "TARGET_POSTGRES_CONNECTIONS": "1"}
    phases = (EXTRACT, LOAD, LOAD_KEY)
    twice = False
    slow = True

    @classmethod
    def takes(cls, data: Data, phase: str) -> bool:
        return data.shape is LINEITEM and super().takes(data, phase)


class LandingZstd(LandingOne):
    name = "landing, zstd"
    settings = "as landing, its files compressed"
    variables: ClassVar = {"TAP_POSTGRES_COMPRESSION": "zstd"}
    files = 0.4


class LandingGzip(LandingZstd):
    name = "landing, gzip"
    variables: ClassVar = {"TAP_POSTGRES_COMPRESSION": "gzip"}


class LandingProtected(Landing):
    name = "landing, protected"
    settings = "as landing, with one column encrypted and one as tokens"
    phases = (EXTRACT,)
    twice = False
    only = "smallest"
    rate = 200_000
    variables: ClassVar = {
        "TAP_POSTGRES_PROTECT": json.dumps({"public.lineitem": {"l_comment": "encrypt", "l_partkey": "token"}}),
        "PROTECTION_KEYS": ",".join(f"{name}:{base64.b64encode(os.urandom(32)).decode()}" for name in ("k", "token")),
    }

    @classmethod
    def takes(cls, data: Data, phase: str) -> bool:
        return data.shape is LINEITEM and super().takes(data, phase)


class Trivial(Landing):
    """A tap and a target of the Singer SDK that move nothing: what a `meltano run` costs in itself."""

    name = "trivial meltano run"
    settings = "a tap and a target of the Singer SDK that move nothing, under the same Meltano"
    phases = (EXTRACT, LOAD_KEY)  # the same run, close to ours of that phase
    start = 2.0

    @classmethod
    def takes(cls, data: Data, phase: str) -> bool:
        return data is EMPTY and phase in cls.phases

    def before_load(self, data: Data, key: bool) -> None:
        self._ready(data, key)

    def extract(self, data: Data) -> Cost:
        return self._meltano(data, True, "run", "tap-nothing", "target-nothing")

    def load(self, data: Data, key: bool) -> Cost:
        return self.extract(data)

    def size(self, data: Data, phase: str) -> int:
        return 0


def make_project(project: Path, databases: Databases, source: str) -> None:
    """A Meltano project like ours, with PostgreSQL as its only source, and the two plugins that move nothing."""
    project.mkdir()
    for name in (".venv", "plugins"):
        (project / name).symlink_to(ROOT / name)
    for plugin, name in (("TapNothing", "tap-nothing"), ("TargetNothing", "target-nothing")):
        path = project / f"{name}.py"
        path.write_text(TRIVIAL.format(python=ROOT / "plugins/.venv/bin/python", plugin=plugin))
        path.chmod(0o700)
    text = (ROOT / "meltano.yml").read_text()
    if CSV_JOB not in text or "  loaders:\n" not in text:
        raise FailedError("meltano.yml is not as bench/ours.py knows it: adapt make_project(), and run again")
    text = text.replace(CSV_JOB, "").replace("  loaders:\n", TRIVIAL_PLUGINS.lstrip("\n"), 1)
    (project / "meltano.yml").write_text(text)
    server = databases.server
    lines = [f"{side}_POSTGRES_{key}={value}" for side, database in (("SOURCE", source), ("TARGET", TARGET))
             for key, value in {"HOST": server.host, "PORT": server.port, "DB": database, "USER": server.user,
                                "PASSWORD": server.password, "SSLMODE": "disable"}.items()]
    write_private(project / ".env", "\n".join([*lines, "LANDING_ROOT=output"]) + "\n")
