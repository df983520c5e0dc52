"""`landing export` writes typed Parquet that readers read as what was landed; what Parquet cannot hold is text."""

import contextlib
import hashlib
import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import polars
import pytest
from landing.export import conversion
from landing.export import manifest as exports
from landing.export.conversion import LIMITS
from landing.export.export import PartitionExport
from landing.extract.postgres import sizes
from landing.storage import local
from landing.zone.landing_zone import LandingZone
from zones import Killed, killed, land

D1, D2 = "2024-01-20", "2024-01-21"
TABLES = {"g": ["0.csv.gz"]}

# By type: literals, NULL besides; and what DuckDB reads of them, where that is not what Python writes likewise.
KEPT = {
    "smallint": (["-32768", "32767"], [-32768, 32767]),
    "integer": (["-2147483648", "0"], [-(2**31), 0]),
    "bigint": (["-9223372036854775808", "9223372036854775807"], [-(2**63), 2**63 - 1]),
    "real": (["0.1", "-0", "3.4028235e+38", "1e-45", "Infinity"], None),
    "double precision": (["0.1", "-0", "1.7976931348623157e+308", "5e-324", "-Infinity"], None),
    "numeric(5,2)": (["-999.99", "0.10"], [Decimal("-999.99"), Decimal("0.10")]),
    "numeric(38,9)": (["1" * 29 + ".000000001"], [Decimal("1" * 29 + ".000000001")]),
    "numeric(3,-5)": (["99900000"], [Decimal("99900000")]),
    "numeric(3,6)": (["0.000999"], [Decimal("0.000999")]),
    "boolean": (["t", "f"], [True, False]),
    "text": (["", " ", 'a,"b"\n\r\n', "NULL", "\\N", "é😀", "\\."], None),
    "character varying(5)": (["", "é😀漢xx"], None),
    "character(5)": (["a"], ["a    "]),
    "date": (["0001-01-01", "1500-02-28", "9999-12-31"], [date(1, 1, 1), date(1500, 2, 28), date(9999, 12, 31)]),
    "timestamp without time zone": (["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"],
                                    [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)]),
    "timestamp(0) with time zone": (["1883-11-18 12:00:00+00", "2024-02-29 12:00:00+05:30"],
                                    [datetime(1883, 11, 18, 12, tzinfo=UTC), datetime(2024, 2, 29, 6, 30, tzinfo=UTC)]),
    "bytea": (["\\x", "\\x00ff5c78"], [b"", b"\x00\xff\\x"]),
    "integer[]": (["{}", "{1,NULL,-3}"], [[], [1, None, -3]]),
    "numeric(5,2)[]": (["{1.50,NULL}"], [[Decimal("1.50"), None]]),
    "double precision[]": (["{0.1,-Infinity}"], [[0.1, -math.inf]]),
    "boolean[]": (["{t,NULL,f}"], [[True, None, False]]),
    "text[]": (['{a,NULL,"NULL","","b,\\"c\\\\d\n","{"," e"}'], [["a", None, "NULL", "", 'b,"c\\d\n', "{", " e"]]),
    "date[]": (["{2024-02-29,NULL}"], [[date(2024, 2, 29), None]]),
    "timestamp without time zone[]": (['{"2024-02-29 12:00:00.5",NULL}'],
                                      [[datetime(2024, 2, 29, 12, 0, 0, 500000), None]]),
    "bytea[]": (['{"\\\\x00ff",NULL}'], [[b"\x00\xff", None]]),
    "uuid[]": (["{00000000-0000-0000-0000-000000000001}"], [["00000000-0000-0000-0000-000000000001"]]),
}
# By type: literals that make the column, or any column of the type, text.
TEXT = {
    "numeric": ["1e40", "NaN", "1.50"], "numeric(39,0)": ["9" * 39], "numeric(10,2)": ["NaN", "1.00"],
    "date": ["infinity", "2024-01-01"], "date -- bc": ["0044-03-15 BC"], "date -- far": ["10000-01-01"],
    "timestamp without time zone": ["-infinity"], "timestamp without time zone -- bc": ["0044-03-15 12:00:00 BC"],
    "timestamp with time zone": ["infinity"], "timestamp with time zone -- far": ["10000-01-01 00:00:00+00"],
    "time without time zone": ["24:00:00"], "time with time zone": ["12:00:00+01"], "interval": ["1 mon -1 day"],
    "uuid": ["00000000-0000-0000-0000-000000000001"], "json": ['{"a" : 1}'], "jsonb": ['{"a": 1}'],
    "money": ["1.50"], "bit(3)": ["101"], "inet": ["10.0.0.0/8"], "int4range": ["[1,5)"],
    "integer[]": ["{{1,2},{3,4}}"], "integer[] -- bounds": ["[0:1]={1,2}"], "text[]": ["{{a}}"],
    "date[]": ["{infinity}"], "box[]": ["{(1,1),(0,0)}"],
}


def columns(cases):
    """SQL of a table's columns, by type."""
    return ", ".join(f"c{number} {type_.partition(' --')[0]}" for number, type_ in enumerate(cases))


def fill(project, name, cases):
    """A table with a column for each case; row i has the i-th literal, or NULL."""
    project.source.run(f"CREATE TABLE {name} (id integer, {columns(cases)})")
    height = max(map(len, cases.values()))
    for row in range(height + 1):
        values = [literals[row] if row < len(literals) else None for literals in cases.values()]
        project.source.run(f"INSERT INTO {name} VALUES ({', '.join(['%s'] * (len(values) + 1))})", row, *values)


@pytest.fixture
def exported(inside, tmp_path_factory):
    """Land, and export to a folder of its own."""
    root = tmp_path_factory.mktemp("parquet")

    def export(day=D1, land=True, check=True):
        if land:
            inside.extract(day)
        result = inside.landing("export", day, "--source", "postgres", "--to", str(root), "--json", check=check)
        return Export(root, day, result)

    export.inside, export.root = inside, root
    return export


class Export:
    """An exported date."""

    def __init__(self, root, day, result):
        self.folder, self.result = root / "source=postgres" / f"extracted_at={day}", result

    @property
    def manifest(self):
        return json.loads((self.folder / "_manifest.json").read_text())

    def table(self, name):
        return next(one for one in self.manifest["tables"] if one["name"] == name)

    def files(self, name):
        return [str(self.folder / file["path"]) for file in self.table(name)["files"]]

    def column(self, name, column):
        """Its values in order of the column `id`, by DuckDB; moments in UTC, which Python has no zone for."""
        rows = f"read_parquet({self.files(name)!r}, hive_partitioning = false)"
        (_, type_, *_), = duckdb.execute(f'DESCRIBE SELECT "{column}" FROM {rows}').fetchall()
        utc = " AT TIME ZONE 'UTC'" if type_ == "TIMESTAMP WITH TIME ZONE" else ""
        query = f'SELECT "{column}"{utc} FROM {rows} ORDER BY id'
        return [value for value, in duckdb.execute(query).fetchall()]


def test_values_keep_their_type_in_every_reader(exported):
    cases = {type_: literals for type_, (literals, _) in KEPT.items()}
    fill(exported.inside.project, "kept", cases)
    export = exported()
    frame = polars.read_parquet(export.files("kept"), hive_partitioning=False).sort("id")
    for number, (type_, (literals, values)) in enumerate(KEPT.items()):
        column = export.table("kept")["columns"][number + 1]
        assert column["type"].split("(")[0] == type_.split("(")[0]
        assert "as_text" not in column or type_ == "uuid[]"
        numbers = type_ in ("real", "double precision")
        expected = values or ([float(one) for one in literals] if numbers else literals)
        found = export.column("kept", f"c{number}")[:len(literals)]
        other = frame[f"c{number}"].to_list()[:len(literals)]
        if type_ == "real":
            expected = [duckdb.execute("SELECT ?::FLOAT", [one]).fetchall()[0][0] for one in literals]
        assert repr(found) == repr([_bare(one) for one in expected]), type_
        assert repr([_bare(one) for one in other]) == repr([_bare(one) for one in expected]), type_
        assert export.column("kept", f"c{number}")[-1] is None


def _bare(value):
    """Polars has a UTC of its own."""
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


def test_what_parquet_cannot_hold_is_the_landed_text_and_the_manifest_says_why(exported):
    fill(exported.inside.project, "texts", TEXT)
    export = exported()
    for number, (type_, literals) in enumerate(TEXT.items()):
        column = export.table("texts")["columns"][number + 1]
        assert column["parquet"] == "BYTE_ARRAY (STRING)", type_
        assert column["as_text"], type_
        query = f"SELECT c{number}::text FROM texts WHERE id < %s ORDER BY id"
        with exported.inside.project.source.connection.cursor() as cursor:
            cursor.execute("SET intervalstyle = postgres; SET timezone = 'UTC'; SET lc_monetary = 'C'")
            cursor.execute(query, (len(literals),))
            assert export.column("texts", f"c{number}")[:len(literals)] == [value for value, in cursor], type_


def test_one_value_that_its_type_does_not_hold_makes_its_column_text_in_all_chunks(exported, monkeypatch):
    monkeypatch.setattr(sizes, "CHUNK_PAGES", 1)
    exported.inside.project.source.run(
        "CREATE TABLE chunked (id integer, day date, other date, filler text);"
        "INSERT INTO chunked SELECT g, '2024-01-01', '2024-01-01', repeat('x', 900) FROM generate_series(1, 80) g;"
        "UPDATE chunked SET day = 'infinity' WHERE id = 80; ANALYZE chunked")
    export = exported()
    files = export.files("chunked")
    assert len(files) > 1
    assert [column["parquet"] for column in export.table("chunked")["columns"]] == [
        "INT32", "BYTE_ARRAY (STRING)", "INT32 (DATE)", "BYTE_ARRAY (STRING)"]
    assert export.column("chunked", "day") == ["2024-01-01"] * 79 + ["infinity"]
    for file in files:
        assert polars.read_parquet_schema(file)["day"] == polars.String
    names = {path.rpartition("/")[2] for path in files}
    assert {path.name for path in export.folder.glob("table=*chunked/*")} == names


def test_names_keep_their_letters_and_those_that_differ_only_in_case_are_told_apart(exported):
    exported.inside.project.source.run(
        'CREATE TABLE named ("A" integer, a integer, "A_1" integer, id integer, "a.b, c;{}=" integer, "q""q" integer, '
        '"source" integer, é integer); INSERT INTO named VALUES (1, 2, 3, 4, 5, 6, 7, 8);'
        "CREATE TABLE nothing ()")
    export = exported()
    written = {column["name"]: column.get("written_as") for column in export.table("named")["columns"]}
    assert {name: other for name, other in written.items() if other} == {"a": "a_2"}
    frame = polars.read_parquet(export.files("named"), hive_partitioning=False)
    assert frame.columns == ["A", "a_2", "A_1", "id", "a.b, c;{}=", 'q"q', "source", "é"]
    assert frame.rows() == [(1, 2, 3, 4, 5, 6, 7, 8)]
    assert [one["name"] for one in export.manifest["tables"] if "nothing" in one["name"]] == []


def test_a_table_without_rows_keeps_its_columns(exported):
    exported.inside.project.source.run("CREATE TABLE empty (id integer, at timestamptz)")
    export = exported()
    assert polars.read_parquet_schema(export.files("empty")[0]) == {
        "id": polars.Int32, "at": polars.Datetime("us", "UTC")}
    assert export.column("empty", "at") == []


def test_rows_longer_than_the_first_limit_are_exported_and_longer_than_the_last_refused(exported, monkeypatch):
    exported.inside.project.source.run(
        "CREATE TABLE long (id integer, value text); INSERT INTO long VALUES (1, repeat('x', 3000000)), (2, 'y')")
    export = exported()
    assert [len(value) for value in export.column("long", "value")] == [3_000_000, 1]
    monkeypatch.setattr(conversion, "LIMITS", LIMITS[:1])
    refused = exported(D2, check=False)
    assert refused.result.returncode == 1
    assert "has a row of more than 2 MiB" in refused.result.text
    assert not refused.folder.exists() or not list(refused.folder.rglob("*.parquet"))


def test_texts_that_are_not_postgresqls_own_are_typed_only_in_a_form_that_says_the_same(project, tmp_path):
    project.csv("t.csv", "a,b,c,d,e,f\n1,1.50,2024-01-02,2024-1-2,t,\"{ 1, 2}\"\n+2,2.5,2024-01-03,2024-01-03,f,{3}\n")
    types = {"a": "integer", "b": "numeric(5,2)", "c": "date", "d": "date", "e": "boolean", "f": "integer[]"}
    tap = project.tap_csv({"entity": "t", "path": "extract/t.csv", "types": types})
    project.pipe(tap, project.target_csv(), DATESTAMP=D1)
    said = project.landing("export", D1, "--to", str(tmp_path / "parquet"))
    assert "t: as text: d (a value is infinite, BC or after the year 9999)" in said.stderr
    frame = polars.read_parquet(str(tmp_path / "parquet/source=csv/*/table=t/*.parquet"), hive_partitioning=False)
    assert frame.rows() == [(1, Decimal("1.50"), date(2024, 1, 2), "2024-1-2", True, "{ 1, 2}"),
                            (2, Decimal("2.50"), date(2024, 1, 3), "2024-01-03", False, "{3}")]


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_an_export_is_made_once_for_a_landed_run_and_replaced_when_it_is_landed_again(exported):
    first = exported()
    assert json.loads(first.result.stdout)["partitions"][0]["outcome"] == "exported"
    landed = exported.inside.project.manifest("postgres", D1)
    assert first.manifest["landed"] == {name: landed[name] for name in ("run_id", "taken_at", "sha256")}
    assert {table["name"]: table["rows"] for table in first.manifest["tables"]} == {"orders": 100, "notes": 40}
    for table in first.manifest["tables"]:
        for file in table["files"]:
            assert hashlib.sha256((first.folder / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    before = files(exported.root)
    again = exported(land=False)
    assert json.loads(again.result.stdout)["partitions"][0]["outcome"] == "already there"
    assert files(exported.root) == before
    exported.inside.project.source.run("DELETE FROM notes")
    replaced = exported()
    assert json.loads(replaced.result.stdout)["partitions"][0]["outcome"] == "replaced"
    assert replaced.table("notes")["rows"] == 0
    listed = {str(replaced.folder / file["path"]) for table in replaced.manifest["tables"] for file in table["files"]}
    assert {str(path) for path in replaced.folder.rglob("*.parquet")} == listed
    next(iter(replaced.folder.rglob("*.parquet"))).unlink()
    assert json.loads(exported(land=False).result.stdout)["partitions"][0]["outcome"] == "replaced"


def test_a_damaged_landed_file_is_named_and_nothing_is_exported(exported):
    exported.inside.extract(D1)
    path = next(exported.inside.project.output.glob("source=postgres/*/table=public-orders/*.csv"))
    path.write_bytes(path.read_bytes().replace(b"c3", b"c4", 1))
    export = exported(land=False, check=False)
    assert export.result.returncode == 1
    assert f"{path}: expected SHA-256" in export.result.text
    assert not list(exported.root.rglob("*.parquet"))
    assert not list(exported.root.rglob("_manifest.json"))


def test_a_root_of_csv_files_is_refused(exported):
    inside, other = exported.inside, exported.root / "zone"
    inside.extract(D1)
    inside.landing("copy", D1, "--to", str(other))
    before = files(other), files(inside.project.output)
    for root, words in ((inside.project.output, "is the landing zone itself"), (other, "is a landing zone")):
        refused = inside.landing("export", D1, "--to", str(root), check=False)
        assert refused.returncode == 1
        assert words in refused.text
    assert (files(other), files(inside.project.output)) == before
    exported(land=False)
    refused = inside.landing("copy", D1, "--to", str(exported.root), check=False)
    assert refused.returncode == 1
    assert "is not a manifest that can be used" in refused.text


def test_an_export_that_is_killed_at_any_step_leaves_the_old_one_or_the_new_one_and_the_next_completes_it(
        tmp_path, monkeypatch):
    monkeypatch.setattr(local, "sync", lambda _: None)
    here, there = LandingZone.at(tmp_path / "output"), LandingZone.at(tmp_path / "parquet")
    day, killed_at, done = date.fromisoformat(D1), 0, False

    def export():
        return PartitionExport(here, there, "postgres", day).run()

    before = land(here, files=TABLES)
    export()
    while not done:
        killed_at += 1
        new = land(here, rows=3 + killed_at, files=TABLES)
        with monkeypatch.context() as patch:
            begun = killed(patch, killed_at)
            with contextlib.suppress(Killed):
                export()
        done = len(begun) < killed_at
        assert whole(there) in ({before: 2 + killed_at}, {new: 3 + killed_at})
        export()
        assert whole(there) == {new: 3 + killed_at}
        before = new
    assert killed_at > 6


def whole(zone):
    """The landed run of an export, and the rows of table g; all files are there."""
    manifest = exports.read(zone.storage, "postgres", date.fromisoformat(D1))
    rows = {table.stream: sum(polars.read_parquet(str(zone.file(manifest, file))).height for file in table.files)
            for table in manifest.tables}
    assert rows == {table.stream: table.rows for table in manifest.tables}
    return {manifest.landed.run_id: rows["g"]}


STORES = pytest.mark.parametrize("store", ["fakes3", "fakegcs", "azurite"], indirect=True)


@STORES
def test_an_export_to_a_store_is_that_to_a_folder(exported, store, tmp_path):
    for name, value in store.environment().items():
        exported.inside.monkeypatch.setenv(name, value)
    root, folder = store.url(), exported()
    prefix = f"{root.rpartition('/')[2]}/source=postgres/extracted_at={D1}/"
    for outcome in ("exported", "already there"):
        said = exported.inside.landing("export", D1, "--to", root, "--json")
        assert json.loads(said.stdout)["partitions"][0]["outcome"] == outcome
    manifest = json.loads(store.read(f"{prefix}_manifest.json"))
    stripped = [[{**one, "path": ""} for one in table["files"]] for table in manifest["tables"]]
    assert stripped == [[{**one, "path": ""} for one in table["files"]] for table in folder.manifest["tables"]]
    for file in (file for table in manifest["tables"] for file in table["files"]):
        assert hashlib.sha256(store.read(prefix + file["path"])).hexdigest() == file["sha256"]
    exported.inside.extract(D1)
    exported.inside.landing("export", D1, "--to", root)
    manifest = json.loads(store.read(f"{prefix}_manifest.json"))
    listed = {prefix + file["path"] for table in manifest["tables"] for file in table["files"]}
    assert {*store.keys(prefix)} == {*listed, f"{prefix}_manifest.json"}
