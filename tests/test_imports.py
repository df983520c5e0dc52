"""What `import landing` does to a process that is not one of its plugins: nothing."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import landing
import pytest
from landing.model import validation
from landing.model.schema import Column
from landing.singer import values

PARAMIKO = """
import sys
from landing.plugins import LazyParamiko
sys.meta_path.insert(0, LazyParamiko)
import {module} as ours, {stock} as stock
assert "paramiko.transport" not in sys.modules
from paramiko import SSHClient
from paramiko.client import SSHClient as same
assert stock.paramiko.SSHClient is SSHClient is same
"""


@pytest.mark.parametrize(("module", "stock"), [("landing.extract.postgres.tap", "tap_postgres.tap"),
                                               ("landing.load.target", "target_postgres.connector")])
def test_paramiko_loads_where_it_is_used_and_is_one_module_for_all(module, stock):
    script = PARAMIKO.format(module=module, stock=stock)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


LATE = {"duckdb", "paramiko.transport", "obstore", "cryptography", "yaml"}  # what few runs need
WITHOUT = {  # what starts import, and what they leave out besides
    "landing.extract.postgres.discovery": {"singer_sdk", "sqlalchemy", "fsspec", "jsonschema"},
    "landing.extract.postgres.tap": {"sqlalchemy", "psycopg", "tap_postgres"},
    "landing.extract.csv.tap": {"sqlalchemy", "psycopg"},
    "landing.load.tap": {"sqlalchemy", "psycopg"},
    "landing.zone.target": {"sqlalchemy", "psycopg"},
    "landing.load.target": {"sqlalchemy", "psycopg", "target_postgres"},
}
STARTED = """
import json, sys
from landing.plugins import LazyParamiko
sys.meta_path.insert(0, LazyParamiko)
sys.modules["numpy"] = None  # the SDK imports it where it is installed, as for these tests
import {module}
print(json.dumps([*sys.modules]))
"""


@pytest.mark.parametrize("module", WITHOUT)
def test_a_start_imports_only_what_every_run_needs(module):
    done = subprocess.run([sys.executable, "-c", STARTED.format(module=module)], capture_output=True, text=True,
                          check=True)
    assert not {*json.loads(done.stdout)} & (LATE | WITHOUT[module])


@pytest.mark.parametrize(("loud", "levels"), [({}, {"WARNING", "ERROR"}), ({"LOGLEVEL": "DEBUG"}, {"DEBUG", "INFO"})])
def test_of_the_sdks_records_those_of_routine_are_shown_only_where_asked_for(project, loud, levels):
    done = project.run([*project.tap_csv(use_batch=False)], DATESTAMP="2024-01-20", **loud)
    lines = [line.split(" | ") for line in done.stderr.splitlines()]
    ours = [line for line in lines if line[2].startswith("landing.")]
    assert any("order_details: 2 rows" in line[3] for line in ours)
    sdks = {line[1].strip() for line in lines if line not in ours}
    assert sdks <= levels if not loud else sdks >= levels


UTC = UTC
MOMENTS = {  # Python 3.11 to 3.14 differ in what datetime.fromisoformat takes of these
    "2024-01-20T01:02:03Z": datetime(2024, 1, 20, 1, 2, 3, tzinfo=UTC),
    "2024-01-20 01:02:03.1+00:00": datetime(2024, 1, 20, 1, 2, 3, 100000, tzinfo=UTC),
    "2024-01-20T01:02:03.12345+05": datetime(2024, 1, 20, 1, 2, 3, 123450, tzinfo=timezone(timedelta(hours=5))),
    "2024-01-20T01:02-0530": datetime(2024, 1, 20, 1, 2, tzinfo=timezone(-timedelta(hours=5, minutes=30))),
    "2024-01-20T01:02:03.123456789Z": datetime(2024, 1, 20, 1, 2, 3, 123456, tzinfo=UTC),
    "2024-01-20": datetime(2024, 1, 20),
    "2024-02-30": None, "2024-01-20T24:00:00": None, "2024-01-20T23:59:60": None, "0000-01-01": None,
    "20240120": None, "2024-01-20T01": None, "2024-W03-6": None, "2024-01-20T01:02:03,5": None,
    "2024-01-20T01:02:03+16:00": None, "2024-01-20T01:02:03+05:75": None, "2024-01-20_01:02:03": None,
    "2024-01-20T01:02:03\n": None, "٢٠٢٤-01-20": None,
}


@pytest.mark.parametrize("text", MOMENTS)
def test_a_moment_is_read_alike_by_every_version_of_python(text):
    write = values.writer(Column("a", "timestamp with time zone"))
    if MOMENTS[text] is None:
        with pytest.raises(ValueError, match=r"."):
            validation.moment(text)
        with pytest.raises(ValueError, match=r"."):
            write(text)
        return
    assert validation.moment(text) == MOMENTS[text]


def test_no_module_reads_a_moment_in_another_way():
    for path in Path(landing.__file__).parent.rglob("*.py"):
        assert "datetime.fromisoformat(" not in path.read_text(), path
