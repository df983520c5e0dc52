"""Whoever can write into the landing zone can write a manifest: it is refused by name, and leads nowhere else."""

import json
import os
import shutil
from datetime import date
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import Project, databases
from landing.core.errors import DamagedError, NotLandedError, ZoneError
from landing.model.manifest import FORMAT_VERSION, LARGEST, Manifest, sealed
from landing.storage.local import LocalStorage
from landing.zone import layout
from landing.zone.landing_zone import LandingZone
from landing.zone.run_log import RunLog

D1, D2 = "2024-01-20", "2024-01-21"
DROP = "x'; DROP TABLE orders; --"


def put(**changes):
    """Change fields of the manifest itself."""
    return lambda manifest: manifest.update(changes)


def table(**changes):
    """Change fields of a table."""
    return lambda manifest: manifest["tables"][0].update(changes)


def column(**changes):
    return lambda manifest: manifest["tables"][0]["columns"][0].update(changes)


def file(**changes):
    return lambda manifest: manifest["tables"][0]["files"][0].update(changes)


def without(*path):
    def change(manifest):
        for key in path[:-1]:
            manifest = manifest[key]
        del manifest[path[-1]]
    return change


def twice(*path):
    def change(manifest):
        for key in path:
            manifest = manifest[key]
        manifest.append(manifest[0])
    return change


HUGE = (10**30, 1 << 63, -1, 1.5, "1", True, None, [1])
WRONG = {
    **{f"{field} is {value!r:.40}": put(**{field: value}) for field, values in {
        "format_version": ("1", None, [1], 0), "min_reader_version": (3, "1", None, [1]),
        "sha256": (None, 5, "", "0" * 64),
        "source": ("csv", None, 5, "../postgres", ["postgres"]),
        "extracted_at": (D2, 20240120, None, "2024-02-30", "../2024-01-20", ["2024-01-20"]),
        "run_id": (None, 5, "", "x" * 41, "../x", DROP, "a\nb", "a\0b"),
        "taken_at": (None, 5, "yesterday", {}, "9" * 5000),
        "seconds": ("1", -1, 10**400, True, [1]),
        "snapshot": (None, [], "x", {"lsn": {"x": 1}}, {"lsn": ["x"]}),
        "software": (None, 1, {"python": [3]}),
        "tables": (None, {}, "x", 5, [None], ["x"], [[]], [{}]),
    }.items() for value in values},
    **{f"a table's {field} is {value!r:.40}": table(**{field: value}) for field, values in {
        "stream": (None, 5, ["x"], "a\0b", "\ud800"),
        "name": (None, 5, {}, "a\0b", "\udfff"),
        "schema": (5, [], "a\0b"),
        "primary_key": (None, "order_id", [5], [None], [DROP], ["no_such"], {"order_id": 1}),
        "comment": (5, [], "a\0b"),
        "declared_types": (None, "false", 0, 1),
        "columns": (None, {}, "x", [None], ["x"], [[]]),
        "foreign_keys": (None, "x", [5], [{"columns": "ab", "schema": "s", "table": "t", "references": []}],
                         [{"columns": [1], "schema": "s", "table": "t", "references": []}],
                         [{"columns": [], "schema": 1, "table": "t", "references": []}]),
        "files": (None, [], {}, "x", [None], [{}]),
        "rows": (*HUGE, 99), "bytes": (*HUGE, 99),
    }.items() for value in values},
    **{f"a column's {field} is {value!r:.40}": column(**{field: value}) for field, values in {
        "name": (None, 5, [], "a\0b", "\ud800"),
        "type": (None, 5, [], "", "integer; DROP TABLE x", "integer)", "text--", "integer DEFAULT pg_sleep(9)",
                 "int/**/eger", 'text"', "integer\n", "pg_catalog.int4", "$1", "%s", "integer(1,2,3)"),
        "nullable": (None, "true", 0),
        "source_type": (5, [], "a\0b"),
        "comment": (5, {}, "a\0b"),
    }.items() for value in values},
    **{f"a file's {field} is {value!r:.40}": file(**{field: value}) for field, values in {
        "path": (None, 5, [], "", ".", "/etc/passwd", "../../../../secret", "table=public-notes/../../../../secret",
                 "a\0b", "\ud800", "x" * 5000, "_manifest.json", "no/such"),
        "rows": HUGE, "bytes": HUGE, "stored": (*HUGE[:-2], [1], 10**30),
        "sha256": (None, 5, "", "x" * 64, "A" * 64, "0" * 63),
    }.items() for value in values},
    **{f"{path[-1]} is missing": without(*path) for path in (
        ["format_version"], ["sha256"], ["seconds"], ["tables"],
        ["source"], ["run_id"], ["taken_at"], ["snapshot"], ["tables", 0, "stream"], ["tables", 0, "rows"],
        ["tables", 0, "files", 0, "sha256"], ["tables", 0, "columns", 0, "type"], ["tables", 0, "primary_key"])},
    "a table stands twice": twice("tables"),
    "a column stands twice": twice("tables", 0, "columns"),
    "a file stands twice": twice("tables", 0, "files"),
}
TEXTS = {
    "empty": lambda text: "",
    "no JSON": lambda text: text[:-9],
    "not UTF-8": lambda text: text.encode("utf-16"),
    "a NUL": lambda text: text + "\0",
    "a list": lambda text: "[]",
    "a text": lambda text: '"x"',
    "null": lambda text: "null",
    "two roots": lambda text: text + text,
    "NaN": lambda text: text.replace('"tables"', '"more": NaN, "tables"', 1),
    "Infinity": lambda text: text.replace('"rows": 100', '"rows": Infinity', 1),
    "a number of 10,000 digits": lambda text: text.replace('"rows": 100', '"rows": ' + "9" * 10_000, 1),
    "a key twice": lambda text: text.replace('"source"', '"source": "postgres", "source"', 1),
    "a file's hash twice": lambda text: text.replace('"sha256"', '"sha256": "", "sha256"', 1),
    "nested deep": lambda text: text.replace('"tables"', '"more": ' + "[" * 200_000 + "]" * 200_000 + ', "tables"', 1),
    "nested deep and open": lambda text: '{"a":' * 200_000,
}


@pytest.fixture(scope="module")
def once(server, tmp_path_factory):
    """A date of both sources, landed once for all tests; nothing of it is loaded."""
    with databases(server) as make:
        project = Project(tmp_path_factory.mktemp("hostile") / "project", make("source"), make("warehouse"))
        project.source.run(
            "CREATE TABLE orders (order_id smallint PRIMARY KEY, customer text);"
            "INSERT INTO orders SELECT g, 'c' || g % 7 FROM generate_series(1, 100) g;"
            "CREATE TABLE notes (order_id integer, note text);"
            "INSERT INTO notes SELECT g % 10, 'n' FROM generate_series(1, 40) g")
        project.land(D1)
        (project.folder / "secret").write_text("order_id,note\n1,secret\n")
        shutil.copytree(project.output, project.folder / "kept")
        yield project


@pytest.fixture
def landed(once, monkeypatch):
    """The landed date as it was, and a file outside of the landing zone."""
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(once.folder))
    shutil.rmtree(once.output)
    shutil.copytree(once.folder / "kept", once.output)
    return once


def opened(project):
    """What a load reads of a date: its manifest, and where each of its files lies."""
    zone = LandingZone.at(project.output)
    manifest = zone.require("postgres", date.fromisoformat(D1))
    return [Path(str(zone.file(manifest, one))) for each in manifest.tables for one in each.files]


def test_a_manifest_with_anything_wrong_in_it_is_refused_by_its_name(landed):
    assert len(opened(landed)) == 2
    path = landed.manifest_path("postgres", D1)
    good = path.read_text()
    changed = {}
    for name, change in WRONG.items():
        manifest = json.loads(good)
        change(manifest)
        hidden = "sha256" in name and not name.startswith("a file")  # whoever edits a manifest writes its hash
        changed[name] = json.dumps(manifest if hidden else sealed(manifest)).encode()
    for name, change in TEXTS.items():
        text = change(good)
        changed[name] = text if isinstance(text, bytes) else text.encode()
    for name, content in changed.items():
        assert content != good.encode(), name
        path.write_bytes(content)
        with pytest.raises(DamagedError) as refusal:
            print(name, opened(landed))
        said = str(refusal.value)
        assert str(path.parent) in said, name
        assert len(said) < 2_500, name
        assert "secret" not in said.replace("/secret", ""), name
    assert len(changed) > 150
    path.write_text(good)
    assert len(opened(landed)) == 2


def test_a_manifest_of_a_newer_version_is_read_if_it_allows_that_and_its_hash_covers_what_is_new(landed):
    path = landed.manifest_path("postgres", D1)
    whole, manifest = Manifest.from_json(path.read_text()), json.loads(path.read_text())
    assert (manifest["format_version"], manifest["min_reader_version"]) == (FORMAT_VERSION, 1)
    manifest["format_version"] = FORMAT_VERSION + 1
    for change in (put(more={"a": [1]}), table(more=1), column(default="1"), file(md5="x")):
        change(manifest)
    path.write_text(json.dumps(sealed(manifest)))
    assert Manifest.from_json(path.read_text()) == whole
    assert len(opened(landed)) == 2
    manifest["more"]["a"] = [2]
    path.write_text(json.dumps(manifest))
    with pytest.raises(DamagedError, match="it was changed"):
        opened(landed)
    path.write_text(json.dumps(sealed(manifest | {"min_reader_version": FORMAT_VERSION + 1})))
    with pytest.raises(DamagedError, match=f"needs a reader of format_version {FORMAT_VERSION + 1}"):
        opened(landed)


def test_a_manifest_that_is_no_file_or_a_gigantic_one_is_not_read(landed):
    path = landed.manifest_path("postgres", D1)
    content = path.read_bytes()
    outside = landed.folder / "elsewhere.json"
    outside.write_bytes(content)
    for make in (lambda: path.symlink_to(outside), lambda: os.mkfifo(path), path.mkdir,
                 lambda: path.symlink_to("/dev/zero")):
        path.unlink()
        make()
        with pytest.raises(DamagedError, match="not a regular file"):
            opened(landed)
        if path.is_dir():
            path.rmdir()
            path.touch()
    path.unlink()
    path.write_bytes(content)
    os.truncate(path, LARGEST + 1)
    with pytest.raises(DamagedError, match="expected at most"):
        opened(landed)


def test_files_behind_links_that_lead_outside_are_not_read(landed):
    path, _ = sorted(opened(landed))
    content = path.read_bytes()
    outside = landed.folder / "outside.csv"
    outside.write_bytes(content)  # the very same bytes: only where they lie is wrong
    path.unlink()
    path.symlink_to(outside)
    with pytest.raises(DamagedError, match="outside of its folder"):
        opened(landed)
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(DamagedError, match="REEXTRACT=true"):
        opened(landed)
    path.unlink()
    shutil.move(path.parent, landed.folder / "moved")
    (landed.folder / "moved" / path.name).write_bytes(content)
    path.parent.symlink_to(landed.folder / "moved")
    with pytest.raises(DamagedError, match="outside of its folder"):
        opened(landed)


def test_a_load_of_a_hostile_manifest_changes_nothing_and_says_which_file_it_is(landed):
    path = landed.manifest_path("postgres", D1)
    manifest = json.loads(path.read_text())
    file(path="../../../secret")(manifest)
    path.write_text(json.dumps(sealed(manifest)))
    result = landed.load(D1, check=False)
    assert result.returncode != 0
    assert str(path) in result.text
    assert "REEXTRACT=true" in result.text
    assert "Traceback" not in result.text
    assert landed.warehouse.run("SELECT 1 FROM pg_tables WHERE schemaname = 'public_history'") == []
    path.write_text("{")
    for command in (["list"], ["show", D1], ["verify", D1]):
        said = landed.landing(*command, check=False)
        assert said.returncode == 1
    assert str(path) in landed.landing("list", check=False).text


def content(folder):
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_names_in_a_manifest_that_are_sql_are_names(landed):
    """Consistent in itself it is a manifest: its names are quoted wherever they go."""
    landed.warehouse.run("CREATE TABLE victim (a integer)")
    path = landed.manifest_path("postgres", D1)
    manifest = json.loads(path.read_text())
    notes = manifest["tables"][0]
    data = path.parent / notes["files"][0]["path"]
    name = 'x"; DROP TABLE victim; --%s{}'
    manifest["tables"][0] |= {"name": name, "stream": f"public-{name}", "comment": "'; DROP TABLE victim; --%s"}
    notes["columns"][1] |= {"name": name, "comment": "'; DROP TABLE victim; --%s"}
    quoted = name.replace('"', '""')
    old = data.read_bytes()
    data.write_bytes(old.replace(b"order_id,note", f'order_id,"{quoted}"'.encode()))
    size = {"bytes": data.stat().st_size}
    notes["files"][0] |= {**size, "sha256": sha256(data.read_bytes()).hexdigest()}
    notes |= size
    path.write_text(json.dumps(sealed(manifest)))
    landed.load(D1, SCHEMA="names")
    assert "3 of 3 tables equal" in landed.landing("verify", D1, "--schema", "names").stdout
    assert len(landed.rows(name, "names")) == 40
    assert landed.warehouse.run("SELECT * FROM victim") == []


@pytest.fixture
def linked(landed):
    """A landing zone with links that lead out of it, and where they lead."""
    outside, zone = landed.folder / "outside", landed.output
    shutil.rmtree(outside, ignore_errors=True)
    (outside / f"extracted_at={D2}" / "table=t").mkdir(parents=True)
    for path in ("file.csv", f"extracted_at={D2}/table=t/mine.csv"):
        (outside / path).write_text("mine")
    shutil.copy(landed.manifest_path("csv", D1), outside / f"extracted_at={D2}" / "_manifest.json")
    day = zone / f"source=csv/extracted_at={D1}"
    (day / "table=linked").symlink_to(outside)
    (day / "table=order_details" / "link.csv").symlink_to(outside / "file.csv")
    (day / "table=order_details" / "folder").mkdir()
    (zone / f"source=csv/extracted_at={D2}").symlink_to(outside / f"extracted_at={D2}")
    (zone / "source=linked").symlink_to(outside)
    (zone / "_staging" / "20240101T000000Z-00000001").symlink_to(outside)
    (zone / "_attempts" / "linked@2024-01-01.jsonl").symlink_to(outside / "file.csv")
    return landed, outside


def test_gc_and_a_date_taken_again_remove_nothing_behind_a_link(linked):
    landed, outside = linked
    before = content(outside)
    assert len(before) == 5
    said = landed.landing("gc", "--yes", "--keep-days", "0", "--older-than", "0")
    assert said.returncode == 0, said.text
    assert content(outside) == before
    landed.land(D1, "csv", REEXTRACT="true")
    assert content(outside) == before


def test_nothing_is_written_through_a_link(linked, caplog):
    landed, outside = linked
    before = content(outside)
    result = landed.land(D2, "csv", check=False, REEXTRACT="true")
    assert result.returncode != 0
    assert f"extracted_at={D2} is a link" in result.text
    assert "Traceback" not in result.text
    zone, day = LandingZone.at(landed.output), date.fromisoformat(D1)
    lock = landed.output / "_staging" / f"csv@{D1}.lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(outside / "file.csv")
    with pytest.raises(ZoneError, match="cannot be opened"), zone.locked("csv", day):
        pass
    log = landed.output / layout.run_log("csv", day)
    log.unlink()
    log.symlink_to(outside / "file.csv")
    RunLog(LocalStorage(landed.output), "x", day).begin("csv")
    assert "The run log could not be written" in caplog.text
    assert content(outside) == before


def test_a_folder_that_somebody_made_is_no_command(landed):
    name = "$(touch pwned);`touch pwned`"
    day = landed.output / f"source={name}" / f"extracted_at={D1}"
    day.mkdir(parents=True)
    (day / "_manifest.json").write_text("{")
    zone = LandingZone.at(landed.output)
    with pytest.raises(NotLandedError) as refusal:
        zone.require(name, date.fromisoformat(D2))
    assert f"SOURCE='{name}' DATESTAMP={D2} meltano run" in str(refusal.value)
    assert "SOURCE=$" not in landed.landing("list", check=False).text
