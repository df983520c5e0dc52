"""The readers in docs/how-to/read-files.md give the values that were landed, with NULL, '' and awkward names."""

import re

import pytest
from conftest import ROOT

PAGE = ROOT / "docs/how-to/read-files.md"
DAY = "2024-01-20"
LONG = "x" * 3_000_000
ROWS = [(1, None, "", "NA", "null", "007"), (2, "", None, "a,b", 'q"q\nnext', " "),
        (3, LONG, "é|;\t", "'x'", "\\N", "\\.")]
NAMES = ["id", "source", "extracted_at", "table", "A", "a"]


@pytest.fixture
def landed(project, monkeypatch):
    """A landed table whose values and names readers get wrong, and one of a single column."""
    project.source.run(
        'CREATE TABLE orders (id integer, source text, extracted_at text, "table" text, "A" text, a text)')
    with project.source.connection.cursor() as cursor:
        cursor.executemany("INSERT INTO orders VALUES (%s, %s, %s, %s, %s, %s)", ROWS)
    project.source.run("CREATE TABLE alone (one text); INSERT INTO alone VALUES ('1'), (NULL), (''), (NULL)")
    project.land(DAY, "postgres")
    monkeypatch.chdir(project.folder)
    return project


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
BEGIN, DUCKDB, PANDAS, POLARS, STORE, STORE_POLARS, TYPES = BLOCKS


def run(table="orders"):
    """What the documented code leaves behind, block after block."""
    names, found = {}, []
    for block in (BEGIN, DUCKDB, PANDAS, POLARS, TYPES):
        exec(compile(block.replace('"orders"', repr(table)), PAGE.name, "exec"), names)  # noqa: S102
        found.append(names.get("frame"))
    return names, found[2], found[3]


def none_for_nan(value):
    return None if isinstance(value, float) else value


def test_every_documented_reader_gives_the_landed_values(landed):
    expected = [tuple(value if value is None else str(value) for value in row) for row in ROWS]
    names, pandas, polars = run()
    assert sorted(names["rows"].fetchall()) == expected
    assert list(pandas.columns) == NAMES
    assert sorted(tuple(map(none_for_nan, row)) for row in pandas.itertuples(index=False)) == expected
    assert polars.columns == NAMES
    assert sorted(polars.rows()) == expected
    assert sorted(row[0] for row in names["typed"].fetchall()) == [1, 2, 3]


def test_every_documented_reader_reads_a_table_of_one_column(landed):
    names, pandas, polars = run("alone")
    assert [value for value, in names["rows"].fetchall()] == ["1", None, "", None]
    assert [none_for_nan(value) for value in pandas["one"]] == ["1", None, "", None]
    assert polars["one"].to_list() == ["1", None, "", None]


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_every_documented_reader_reads_a_date_from_a_store(landed, store, compression, monkeypatch):
    for name, value in {**store.environment(), "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    root, names = store.url(), {}
    landed.pipe(landed.tap_postgres(compression=compression), landed.target_csv(), DATESTAMP=DAY, REEXTRACT="true")
    landed.landing("copy", DAY, "--to", root)
    register = "import duckdb; duckdb.register_filesystem(store)"
    for block in (STORE.replace("s3://bucket/zone", root), register, DUCKDB, PANDAS):
        exec(compile(block, PAGE.name, "exec"), names)  # noqa: S102
    expected = [tuple(value if value is None else str(value) for value in row) for row in ROWS]
    assert sorted(names["rows"].fetchall()) == expected
    assert sorted(tuple(map(none_for_nan, row)) for row in names["frame"].itertuples(index=False)) == expected
    exec(compile(STORE_POLARS, PAGE.name, "exec"), names)  # noqa: S102
    assert names["frame"].columns == NAMES
    assert sorted(names["frame"].rows()) == expected
    names["duckdb"].unregister_filesystem("s3")
