"""What `import landing` does to a process that is not one of its plugins: nothing."""

import logging
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import landing
import pytest
import singer_sdk
from landing.model import validation
from landing.model.schema import Column
from landing.singer import values
from landing.singer.process import SdkLogFilter

USE = """
import sys
{imports}
assert ("paramiko" in sys.modules) == {loaded}, "paramiko is imported when it is wanted, and not before"
import paramiko.client
from paramiko import AutoAddPolicy, SSHClient
assert paramiko.client.SSHClient is SSHClient is paramiko.SSHClient
import landing.extract.postgres.tap, landing.load.target, tap_postgres.tap, target_postgres.connector
assert tap_postgres.tap.paramiko.SSHClient is target_postgres.connector.paramiko.SSHClient is SSHClient
"""


@pytest.mark.parametrize("imports", [
    "import landing", "import landing.api, landing.cli.main",
    "import landing.extract.postgres.tap, landing.load.target",
    "import paramiko; import landing.extract.postgres.tap"])
def test_paramiko_is_the_real_one_for_everybody_who_imports_it(imports):
    script = USE.format(imports=imports, loaded="import paramiko" in imports)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def record(pathname, level=logging.INFO):
    return logging.LogRecord("tap-csv", level, str(pathname), 1, "said", None, None)


def test_a_project_in_a_folder_called_singer_sdk_has_a_log():
    kept = SdkLogFilter().filter
    assert kept(record("/home/me/singer_sdk/plugins/landing/tap_csv.py"))
    assert kept(record("/home/me/singer_sdk_project/plugins/landing/tap_csv.py"))
    inside = Path(singer_sdk.__file__).parent / "tap_base.py"
    assert not kept(record(inside))
    assert kept(record(inside, logging.WARNING))


UTC = timezone.utc
MOMENTS = {  # Python 3.10 to 3.14 differ in what datetime.fromisoformat takes of these
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
