"""CSV files from stores: found by file, folder and pattern, read by stream, and moved there."""

import glob
import json
import os
import subprocess
import sys
from datetime import date
from itertools import count

import pytest
import stores
import test_csv_after_landing as after
from landing.core.errors import SourceError, UnsettledFileError
from landing.extract.csv import entity as entity_module
from landing.storage import hashing, names
from landing.storage.keys import KeyFinder
from landing.storage.local import LocalStorage
from landing.storage.urls import storage
from landing.zone.landing_zone import LandingZone

DAY, NEXT = "2024-03-01", "2024-03-02"
EVERY = pytest.mark.parametrize("store", ["fakes3", "fakegcs", "moto", "azurite"], indirect=True)
ONE = pytest.mark.parametrize("store", ["fakes3"], indirect=True)
numbers = count()


@pytest.fixture
def inbox(store, monkeypatch):
    """A prefix of its own: put(name=content) writes objects, `url` is its URL."""
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    names._bucket.cache_clear()  # it is of the test before

    class Inbox:
        prefix = f"inbox-{os.getpid()}-{next(numbers)}"
        url = store.url(prefix)

        def put(self, **files):
            for name, content in files.items():
                key = f"{self.prefix}/{name.replace('__', '/')}.csv"
                store.put(key, content if isinstance(content, bytes) else content.encode())

        def keys(self):
            return [key.removeprefix(f"{self.prefix}/") for key in store.keys(f"{self.prefix}/")]

    return Inbox()


@EVERY
def test_a_file_a_folder_and_a_pattern_of_a_store_are_read_as_in_a_folder(convert, inbox):
    inbox.put(a="x,y\n1,é\n", b="y,x\n\"b\nb\",2\n", deep__er__c="x,y\n3,c\n", ä="x,y\n4,d\n".encode("utf-16"))
    assert convert(path=f"{inbox.url}/a.csv").text == "x,y\n1,é\n"
    assert convert(path=inbox.url).text == 'x,y\n1,é\n2,"b\nb"\n4,d\n'
    assert convert(path=f"{inbox.url}/**/[a-c].csv", keys=["x"], metadata=True).text.splitlines()[1].startswith(
        f"1,é,{inbox.url}/a.csv,2,")
    assert convert(path=f"{inbox.url}/*/*/?.csv").types == {"x": "integer", "y": "text"}


def test_a_pattern_finds_the_keys_that_it_finds_as_files(tmp_path):
    for name in ("a/x.csv", "a/b/x.csv", "a/b/.h.csv", "a/.h/x.csv", "c[1].csv", "a/y.CSV", "a/b/c/x2.csv",
                 "d/2024-01-01/x.csv", "d/2024-01-02/y.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern in ("*", "a/*", "**", "a/**", "**/*.csv", "a/**/x.csv", "**/x*", "a/*/x.csv", "d/2024-*/?.csv",
                    "a/[bx]*", "a/b/**/x2.csv", "**/**/x.csv", "a/.h/*", "a/.*", "[ad]/*/*.csv"):
        found = [file.key for file in KeyFinder(LocalStorage(tmp_path)).files(f"az://inbox/{pattern}")]
        matching = glob.glob(str(tmp_path / pattern), recursive=True)
        assert found == sorted({os.path.relpath(path, tmp_path) for path in matching if os.path.isfile(path)}), pattern
    finder = KeyFinder(LocalStorage(tmp_path))
    assert [file.key for file in finder.files("az://inbox/c[1].csv")] == ["c[1].csv"]
    assert [file.key for file in finder.files("az://inbox/a/")] == ["a/x.csv", "a/y.CSV"]


@ONE
def test_a_bad_file_and_a_missing_one_are_named_by_their_urls(convert, inbox):
    inbox.put(**{"sales_2024-03-02": "a\n1\n", "sales_2024-02-28": "a\n1,2\n"})
    with pytest.raises(SourceError, match=rf"{inbox.url}/sales_2024-02-28\.csv, line 2: expected 1 fields, found 2"):
        convert(path=f"{inbox.url}/sales_2024-02-28.csv")
    with pytest.raises(SourceError, match="Nearest dates with a file: 2024-02-28, 2024-03-02"):
        convert(path=f"{inbox.url}/sales_{{date}}.csv")
    with pytest.raises(SourceError, match=rf"There is: {inbox.url}/sales_2024-0"):
        convert(path=f"{inbox.url}/sale_2024-03-02.csv")
    with pytest.raises(SourceError, match="does not exist"):
        convert(path=f"{inbox.url}/nothing/*.csv")


@EVERY
def test_a_file_that_is_replaced_while_it_is_read_is_refused_by_its_version(convert, inbox, monkeypatch):
    inbox.put(a="x\n1\n")
    write = entity_module.write_rows

    def write_and_replace(*arguments):
        written = write(*arguments)
        inbox.put(a="x\n2\n")  # of the same size
        return written

    monkeypatch.setattr(entity_module, "write_rows", write_and_replace)
    with pytest.raises(UnsettledFileError, match=rf"{inbox.url}/a\.csv: the file changed while it was read"):
        convert(path=f"{inbox.url}/a.csv")


@EVERY
def test_the_rows_of_a_file_keep_a_contract_as_in_a_folder(convert, inbox):
    content = "id,name,n\n1, Ann ,2\n2,x,3\n2,bob,4\n3,éve,-1\n4,bob,\n5,bob,9\n"
    inbox.put(a=content)
    contract = {"normalize": {"name": ["trim", "lower"]}, "derive": {"twice": "n * 2"},
                "columns": {"id": {"type": "integer", "unique": True}, "name": {"type": "text", "minLength": 3},
                            "n": {"type": "integer", "minimum": 0}, "twice": {"type": "integer"}},
                "checks": {"small": "n < 9"}}
    landed = convert(path=f"{inbox.url}/a.csv", quarantine=True, **contract)
    assert landed.text == "id,name,n,twice\n1,ann,2,4\n2,bob,4,8\n4,bob,,\n"
    assert {row["file"] for row in landed.rejected} == {f"{inbox.url}/a.csv"}
    assert [(row["line"], row["rule"]) for row in landed.rejected] == [(3, "minLength"), (5, "minimum"), (7, "small")]
    assert convert(content, quarantine=True, **contract).text == landed.text
    with pytest.raises(SourceError, match=rf"{inbox.url}/a\.csv, line 3: column 'name': minLength: expected"):
        convert(path=f"{inbox.url}/a.csv", **contract)


MEASURED = """
import logging, re, sys
from datetime import date
from pathlib import Path
from landing.core.progress import Progress
from landing.extract.csv.declaration import declarations
from landing.extract.csv.entity import CsvEntity
from landing.storage.finding import local_file

declared, = declarations([{"entity": "e", "path": sys.argv[1], "keys": ["id"]}], date(2024, 1, 20))
folder = Path(sys.argv[2])
entity = CsvEntity(declared)
entity.convert(entity.names, folder, local_file(folder / "e.csv"), Progress(logging.getLogger(), "e"))
print(sum(path.stat().st_size for path in folder.iterdir()) - (folder / "e.csv").stat().st_size,
      int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10)
"""


@ONE
def test_a_file_of_a_store_is_read_by_stream_without_a_copy_in_memory_or_on_the_disk(inbox, tmp_path):
    used = {}
    for megabytes in (40, 120):  # the smaller fills all buffers
        folder = tmp_path / str(megabytes)
        folder.mkdir()
        inbox.put(big="id,text\n" + "".join(f"{number},{'x' * 2000}\n" for number in range(500 * megabytes)))
        done = subprocess.run([sys.executable, "-c", MEASURED, f"{inbox.url}/big.csv", str(folder)],
                              capture_output=True, text=True, env={**os.environ, "MELTANO_PROJECT_ROOT": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        scratch, used[megabytes] = map(int, done.stdout.split())
        assert scratch == 0
    assert used[120] - used[40] < 32 << 20, used


@pytest.fixture
def landing(tmp_path, inbox):
    """A project whose landing zone is in the store, too."""
    project = after.Inbox(tmp_path)
    project.variables = {"LANDING_ROOT": f"{inbox.url}-zone"}
    return project


def entity(inbox, done, path="*.csv"):
    return {"entity": "e", "path": f"{inbox.url}/{path}", "after_landing": {"done": done}}


def rows(landing, day):
    """The rows of a landed date, of a zone in a store."""
    zone = LandingZone(storage(landing.variables["LANDING_ROOT"]))
    table, = zone.require("csv", date.fromisoformat(day)).tables
    file = zone.file(zone.require("csv", date.fromisoformat(day)), table.files[0])
    with hashing.reader(file) as read:
        return read.read().decode().splitlines()[1:]


@EVERY
def test_files_of_a_store_are_moved_there_and_read_again_from_there(landing, inbox):
    inbox.put(a="x\n1\n", b="x\n2\n")
    declared = entity(inbox, f"{inbox.url}/done/{{date}}")
    landing.land(DAY, declared)
    assert inbox.keys() == [f"done/{DAY}/a.csv", f"done/{DAY}/b.csv"]
    inbox.put(a="x\n3\n")
    landing.land(NEXT, declared)
    landing.land(DAY, declared, REEXTRACT="true")
    assert (rows(landing, DAY), rows(landing, NEXT)) == (["1", "2"], ["3"])
    assert inbox.keys() == [f"done/{DAY}/a.csv", f"done/{DAY}/b.csv", f"done/{NEXT}/a.csv"]


@ONE
def test_files_move_between_folders_and_stores_both_ways(landing, inbox):
    inbox.put(a="x\n1\n")
    landing.land(DAY, entity(inbox, "done"))
    assert (inbox.keys(), landing.files()) == ([], ["done/a.csv"])
    landing.put(c="x\n2\n")
    landing.land(NEXT, {**entity(inbox, f"{inbox.url}/done"), "path": "inbox/*.csv"})
    assert (inbox.keys(), landing.files()) == (["done/c.csv"], ["done/a.csv"])


@ONE
def test_a_file_of_a_store_that_could_not_be_moved_is_not_landed_again_and_moved_later(landing, inbox):
    (landing.folder / "done").write_text("no folder")
    inbox.put(a="x\n1\n")
    assert "is landed and committed" in landing.land(DAY, entity(inbox, "done")).text
    assert "there is no new file" in landing.land(NEXT, entity(inbox, "done"), check=False).text
    (landing.folder / "done").unlink()
    inbox.put(b="x\n2\n")
    landing.land(NEXT, entity(inbox, "done"))
    assert rows(landing, NEXT) == ["2"]
    assert landing.files() == ["done/a.csv", "done/b.csv"]
    assert inbox.keys() == []


@ONE
def test_a_refused_file_of_a_store_is_moved_there_with_its_reasons(landing, inbox, store):
    inbox.put(a="x\n1\n", b="x\n1,2\n")
    declared = {**entity(inbox, f"{inbox.url}/done"), "after_landing": {"failed": f"{inbox.url}/failed"}}
    refused = landing.land(DAY, declared, check=False).text
    moved = f"{inbox.url}/failed/b.csv"
    assert f"It is now {moved}, and the reasons are in {moved}.reasons.json" in refused
    assert inbox.keys() == ["a.csv", "failed/b.csv", "failed/b.csv.reasons.json"]
    assert stores.SECRET not in refused
    assert json.loads(store.read(f"{inbox.prefix}/failed/b.csv.reasons.json"))["line"] == 2
