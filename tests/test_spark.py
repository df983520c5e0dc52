"""Spark, DuckDB and polars read equal sums of every column from an export: `make spark-test` has what this needs."""

import json
import math
import shutil
import subprocess
from decimal import Decimal, getcontext

import duckdb
import polars
import pytest
from conftest import NORTHWIND, ROOT
from test_export import D1, KEPT, TEXT, fill

PYTHON = ROOT / "tests/spark/.venv/bin/python"

pytestmark = [
    pytest.mark.skipif(not shutil.which("java"), reason="Spark needs Java 17 or later"),
    pytest.mark.skipif(not PYTHON.exists(), reason="tests/spark/.venv is not there: run `make spark-test`"),
    pytest.mark.timeout(900),
]


@pytest.fixture
def tables(inside, tmp_path_factory):
    """The files of exported tables, by name: of every type, of those that become text, and of a shop."""
    project, root = inside.project, tmp_path_factory.mktemp("parquet")
    fill(project, "kept", {type_: literals for type_, (literals, _) in KEPT.items()})
    fill(project, "texts", TEXT)
    project.source.run("CREATE TABLE many AS SELECT g AS id, g * 1.25::numeric(12,2) AS price, md5(g::text) AS name, "
                       "timestamptz '2024-01-01 00:00+00' + g * interval '1 second' AS at, g / 7.0::float8 AS share "
                       "FROM generate_series(1, 300000) g")
    if NORTHWIND.is_dir():
        for script in sorted(NORTHWIND.rglob("*.sql")):
            project.source.run(script.read_text())
    inside.extract(D1)
    inside.landing("export", D1, "--source", "postgres", "--to", str(root))
    folder = root / "source=postgres" / f"extracted_at={D1}"
    manifest = json.loads((folder / "_manifest.json").read_text())
    return {table["name"]: [str(folder / file["path"]) for file in table["files"]] for table in manifest["tables"]}


def by_spark(tables, folder):
    """What spark/sums.py says: by table and column type, count, sum."""
    request = folder / "tables.json"
    request.write_text(json.dumps(tables))
    done = subprocess.run([PYTHON, ROOT / "tests/spark/sums.py", request], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout)


def by_duckdb(files):
    """Count and sum of each column."""
    rows = f"read_parquet({files!r}, hive_partitioning = false)"
    found = {}
    for name, type_, *_ in duckdb.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall():
        column = '"' + name.replace('"', '""') + '"'
        value = {"BOOLEAN": f"{column}::INTEGER", "DATE": f"{column} - DATE '1970-01-01'",
                 "VARCHAR": f"strlen({column})", "TIMESTAMP": f"epoch_us({column})",
                 "TIMESTAMP WITH TIME ZONE": f"epoch_us({column})", "BLOB": f"octet_length({column})",
                 "FLOAT": f"{column}::DOUBLE"}.get(type_, column)
        value = f"len({column})" if type_.endswith("[]") else value
        found[name] = duckdb.execute(f"SELECT count({column}), sum({value})::VARCHAR FROM {rows}").fetchall()[0]
    return found


def by_polars(files):
    """Likewise."""
    getcontext().prec = 60  # of sums of DECIMAL(38)
    frame, found = polars.read_parquet(files, hive_partitioning=False), {}
    for name in frame.columns:
        column = frame[name].drop_nulls()
        kind = column.dtype
        if kind == polars.String:
            values = column.str.len_bytes().to_list()
        elif kind == polars.Binary:
            values = column.bin.size().to_list()
        elif kind == polars.List:
            values = column.list.len().to_list()
        elif kind.is_temporal():
            values = column.to_physical().to_list()
        else:
            values = column.to_list()
        found[name] = len(column), str(math.fsum(values) if kind.is_float() else sum(values)) if values else None
    return found


def same(type_, first, second):
    """Whether two sums are equal; of floats in whatever order they were added."""
    if first is None or second is None:
        return first == second
    if type_ not in ("float", "double"):
        return Decimal(first) == Decimal(second)
    first, second = float(first), float(second)
    return math.isclose(first, second, rel_tol=1e-12) or (math.isnan(first) and math.isnan(second))


def test_spark_duckdb_and_polars_read_equal_sums_of_every_column(tables, tmp_path):
    spark, columns = by_spark(tables, tmp_path), 0
    for table, files in tables.items():
        duck, polar = by_duckdb(files), by_polars(files)
        assert [*spark[table]] == [*duck] == [*polar]
        for name, (type_, count, found) in spark[table].items():
            columns += 1
            assert count == duck[name][0] == polar[name][0], (table, name, type_)
            assert same(type_, found, duck[name][1]), (table, name, type_, found, duck[name])
            assert same(type_, found, polar[name][1]), (table, name, type_, found, polar[name])
    assert columns > 60
    print(f"{len(tables)} tables, {columns} columns: equal sums in Spark, DuckDB and polars")
