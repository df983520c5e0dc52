"""What happens to landed files is refused before the warehouse changes, naming the file; landing again mends it."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from landing.core.dates import parse_date
from landing.core.errors import DamagedError
from landing.extract.postgres import sizes
from landing.model.manifest import UNUSABLE, Manifest, sealed
from landing.zone.landing_zone import LandingZone

DAY, OTHER = "2024-03-01", "2024-03-02"
READING = (["list"], ["show", DAY], ["plan", "--from", DAY, "--to", DAY, "--json"], ["gc"])


@pytest.fixture
def landed(inside, monkeypatch):
    """A date of two sources, loaded: a table in two pieces, others in one, the csv source compressed."""
    monkeypatch.setattr(sizes, "CHUNK_PAGES", 2)
    inside.project.source.run(
        "CREATE TABLE events (id integer PRIMARY KEY, note text);"
        "INSERT INTO events SELECT g, repeat('x', 200) FROM generate_series(1, 200) g; ANALYZE")
    inside.extract(DAY)
    inside.extract(DAY, "csv", compression="gzip")
    inside.load(DAY)
    return inside


def files_of(project, source):
    """Landed files of a source's date, by table."""
    folder = project.manifest_path(source, DAY).parent
    return {table["name"]: [folder / file["path"] for file in table["files"]]
            for table in project.manifest(source, DAY)["tables"]}


def state(project):
    """Every relation of the warehouse with its storage, and every line of the ledger with the transaction it is of."""
    return project.warehouse.run(
        "SELECT array_agg((oid, relname, relfilenode)::text ORDER BY oid) FROM pg_class "
        "WHERE relnamespace::regnamespace::text LIKE 'public%%' UNION ALL "
        "SELECT array_agg((l, l.xmin)::text ORDER BY l) FROM public_history._loads l")


def flipped(place: float) -> Callable[[Path], None]:
    """One bit, at a share of the file's length."""
    def damage(path):
        content = bytearray(path.read_bytes())
        content[round(place * (len(content) - 1))] ^= 1
        path.write_bytes(content)
    return damage


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def linked_away(path: Path) -> None:
    outside = path.parents[3] / "elsewhere"
    shutil.move(path, outside)
    path.symlink_to(outside)


DAMAGES = {
    "truncated by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "truncated to a half": cut(0.5),
    "bit flipped in the header": flipped(0),
    "bit flipped in the middle": flipped(0.5),
    "bit flipped at the end": flipped(1),
    "emptied": cut(0),
    "removed": Path.unlink,
    "extended by a byte": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a folder": made_a_folder,
    "a link out of its folder": linked_away,
}


def restored(path: Path, content: bytes) -> None:
    """As it was, whatever lies there now."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def refused(inside, before, *words: str) -> None:
    """By a load and by `landing verify`, in these words, naming the command; and the warehouse is as it was."""
    load = inside.load(DAY, check=False, reload=True)
    verify = inside.landing("verify", DAY, check=False)
    for result in (load, verify):
        assert result.returncode == 1, words
        for word in (*words, "REEXTRACT=true MELTANO_ENVIRONMENT=extract"):
            assert word in result.text, result.text
    assert state(inside.project) == before


def test_every_damage_to_every_file_is_refused_by_load_and_verify_and_landing_again_mends_it(landed):
    before, count = state(landed.project), 0
    everything = {**files_of(landed.project, "postgres"), **files_of(landed.project, "csv")}
    assert [len(everything[name]) for name in ("events", "notes", "orders", "order_details")] == [2, 1, 1, 1]
    for path in (path for paths in everything.values() for path in paths):
        content = path.read_bytes()
        for name, damage in DAMAGES.items():
            damage(path)
            try:
                refused(landed, before, f"{path.parent.name}/{path.name}")
            except AssertionError as error:
                raise AssertionError(f"{path.name} {name}") from error
            count += 1
            restored(path, content)
    assert count == 5 * len(DAMAGES)
    assert landed.proved(DAY)
    for path in everything["orders"]:
        path.write_bytes(b"")
    landed.extract(DAY)
    landed.load(DAY)
    assert landed.proved(DAY)


def swapped(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def test_files_in_each_others_place_are_refused(landed):
    everything = files_of(landed.project, "postgres")
    before = state(landed.project)
    pieces = everything["events"]
    pairs = [pieces, [*everything["orders"], *everything["notes"]], [pieces[0], *everything["orders"]]]
    for one, other in pairs:
        swapped(one, other)
        refused(landed, before, "/extracted_at=2024-03-01/table=public-")
        swapped(one, other)
    content = everything["orders"][0].read_bytes()
    shutil.copy(everything["notes"][0], everything["orders"][0])
    refused(landed, before, str(everything["orders"][0]))
    restored(everything["orders"][0], content)
    assert landed.proved(DAY)


def test_rows_of_a_damaged_file_are_not_sent_as_records(landed):
    """A target of somebody else has no hash to check."""
    path, = files_of(landed.project, "postgres")["orders"]
    before, content = state(landed.project), path.read_bytes()
    flipped(0.5)(path)
    sent = landed.load(DAY, check=False, reload=True, batches=False)
    assert sent.returncode == 1
    assert f"{path}: expected SHA-256" in sent.text
    assert f"REEXTRACT=true MELTANO_ENVIRONMENT=extract SOURCE=postgres DATESTAMP={DAY}" in sent.text
    assert state(landed.project) == before
    restored(path, content)
    landed.load(DAY, reload=True, batches=False)
    assert landed.proved(DAY)


def changed(*keys: object, to: object) -> Callable[[dict], None]:
    """A field, found by the keys on the way to it, gets a value, or what a function makes of its own."""
    def change(manifest):
        for key in keys[:-1]:
            manifest = manifest[key]
        manifest[keys[-1]] = to(manifest[keys[-1]]) if callable(to) else to
    return change


def both_rows(manifest: dict) -> None:
    for one in (manifest["tables"][2], manifest["tables"][2]["files"][0]):
        one["rows"] += 1


FILE, COLUMN = ("tables", 2, "files", 0), ("tables", 2, "columns", 0)
EDITS = {
    "rows": changed("tables", 2, "rows", to=101),
    "rows of the file": changed(*FILE, "rows", to=99),
    "rows of both": both_rows,
    "bytes": changed(*FILE, "bytes", to=1),
    "hash": changed(*FILE, "sha256", to="0" * 64),
    "hash that is none": changed(*FILE, "sha256", to=None),
    "path outside": changed(*FILE, "path", to="../../../secret"),
    "path from the root": changed(*FILE, "path", to="/etc/passwd"),
    "path of another table": changed("tables", 2, "files", to=lambda files: [
        {**file, "path": file["path"].replace("orders", "notes")} for file in files]),
    "path with a NUL": changed(*FILE, "path", to="table=public-orders/\0.csv"),
    "path that is too long": changed(*FILE, "path", to="x" * 5000),
    "path that is none": changed(*FILE, "path", to=7),
    "no file": changed("tables", 2, "files", to=[]),
    "type hostile": changed(*COLUMN, "type", to="integer; DROP TABLE x"),
    "name of a column that is none": changed(*COLUMN, "name", to=None),
    "key that is no column": changed("tables", 2, "primary_key", to=["id"]),
    "tables that are none": changed("tables", to={"orders": 1}),
    "another date": changed("extracted_at", to=OTHER),
    "a date that is none": changed("extracted_at", to="2024-02-30"),
    "another source": changed("source", to="csv"),
    "a version for newer readers": changed("min_reader_version", to=3),
    "a moment that is none": changed("taken_at", to="yesterday"),
    "a run that is none": changed("run_id", to=None),
    "a snapshot that is none": changed("snapshot", to="x"),
    "seconds that are none": changed("seconds", to="x"),
}
# These say something else that could be true: only the manifest's own hash tells.
SEALED = {
    "column type": changed(*COLUMN, "type", to="bigint"),
    "column name": changed(*COLUMN, "name", to="id"),
    "nullable": changed(*COLUMN, "nullable", to=True),
    "key": changed("tables", 2, "primary_key", to=[]),
    "comment": changed("tables", 2, "comment", to="x"),
    "a table less": changed("tables", to=lambda tables: tables[:-1]),
    "moment": changed("taken_at", to="2024-03-01T00:00:00+00:00"),
    "run": changed("run_id", to="20240301T000000Z-00000000"),
    "declared types": changed("tables", 2, "declared_types", to=True),
    "its own hash": changed("sha256", to="0" * 64),
    "pieces in another order": changed("tables", 0, "files", to=lambda files: files[::-1]),
}
TEXTS = {
    "truncated": lambda text: text[:-10],
    "truncated to a half": lambda text: text[:len(text) // 2],
    "emptied": lambda text: b"",
    "not UTF-8": lambda text: text.replace(b"orders", b"ord\xffrs"),
    "no object": lambda text: b"[]",
    "nothing": lambda text: b"null",
    "an empty object": lambda text: b"{}",
    "very deep": lambda text: b"[" * 100_000,
    "a number that is too long": lambda text: b"1" * 10_000,
}


def still_looked_at(inside) -> None:
    """The commands that only look go on, and say what is wrong."""
    said = {arguments[0]: inside.landing(*arguments, check=False) for arguments in READING}
    assert {command: result.returncode for command, result in said.items()} == {
        "list": 1, "show": 1, "plan": 0, "gc": 0}
    assert "damaged" in said["list"].stdout
    assert "damaged" in said["show"].stdout
    assert json.loads(said["plan"].stdout)["dates"][0]["load"] == "refuse"
    assert DAY not in said["gc"].stdout


def test_every_damage_to_a_manifest_is_refused_by_load_and_verify_and_all_commands_go_on(landed):
    project = landed.project
    path = project.manifest_path("postgres", DAY)
    before, content = state(project), path.read_bytes()
    (project.folder / "secret").write_text("x")
    cases = {name: damage(content) for name, damage in TEXTS.items()}
    for name, edit in EDITS.items():
        manifest = json.loads(content)
        edit(manifest)
        cases[name] = json.dumps(sealed(manifest)).encode()
    for name, text in cases.items():
        path.write_bytes(text)
        try:
            refused(landed, before, *([str(path)] if name in TEXTS else []))
            if name in TEXTS:
                still_looked_at(landed)
            else:
                for arguments in READING:
                    landed.landing(*arguments, check=False)
        except AssertionError as error:
            raise AssertionError(name) from error
        path.write_bytes(content)
    made_a_folder(path)
    refused(landed, before, str(path))
    restored(path, content)
    assert landed.proved(DAY)


def test_whatever_is_edited_in_a_manifest_its_own_hash_tells(landed):
    project = landed.project
    path, day = project.manifest_path("postgres", DAY), parse_date(DAY, "")
    content, landing = path.read_bytes(), LandingZone.at(project.output)
    for name, edit in (EDITS | SEALED).items():
        manifest = json.loads(content)
        edit(manifest)
        path.write_text(json.dumps(manifest))
        with pytest.raises(DamagedError, match=f"{path} is not a manifest that can be used") as refusal:
            landing.require("postgres", day)
        assert name == "a version for newer readers" or "it was changed" in str(refusal.value), name
    path.write_text(json.dumps(json.loads(content), indent=4))  # the same, written otherwise
    assert landing.require("postgres", day).tables
    SEALED["column type"](manifest := json.loads(content))
    path.write_text(json.dumps(manifest))
    refused(landed, state(project), str(path))
    still_looked_at(landed)


def test_a_manifest_of_another_date_or_source_is_refused(landed):
    project = landed.project
    landed.extract(OTHER)
    path = project.manifest_path("postgres", DAY)
    before, content = state(project), path.read_bytes()
    for other in (project.manifest_path("postgres", OTHER), project.manifest_path("csv", DAY)):
        shutil.copy(other, path)
        refused(landed, before, str(path), "it does not match its directory")
        still_looked_at(landed)
        restored(path, content)
    path.unlink()
    assert f"SOURCE=postgres DATESTAMP={DAY} meltano run" in landed.load(DAY, check=False).text
    assert state(project) == before
    restored(path, content)
    landed.load(DAY, reload=True)
    assert landed.proved(DAY)


def test_any_bit_of_a_manifest_that_flips_is_seen_or_changes_nothing_that_it_says(landed):
    text = landed.project.manifest_path("postgres", DAY).read_bytes()
    whole = Manifest.from_json(text.decode())
    seen, chance = 0, random.Random(1)
    for place in range(len(text)):
        content = bytearray(text)
        content[place] ^= 1 << chance.randrange(8)
        try:
            assert Manifest.from_json(content.decode()) == whole
        except UNUSABLE:
            seen += 1
    assert seen > 0.5 * len(text)
