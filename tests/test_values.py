"""Every value, type and name arrives as it was, byte for byte."""

import hashlib
import tempfile
from pathlib import Path

from psycopg2 import sql

HARD = Path(__file__).with_name("hard_table.sql").read_text()
DAY = "2024-03-01"
TABLE = 'Hard "Table", with spaces'


def hashes(project, source="postgres", day=DAY):
    return {table["name"]: table["files"][0]["sha256"] for table in project.manifest(source, day)["tables"]}


def copied_by_hand(database, table):
    """SHA-256 of what COPY says by itself, without any of our code."""
    digest = hashlib.sha256()
    with database.connection.cursor() as cursor, tempfile.TemporaryFile() as file:
        cursor.execute("SET TimeZone = 'UTC'; SET lc_monetary = 'C'")
        name = sql.Identifier(table).as_string(cursor)
        cursor.copy_expert(f"COPY (SELECT * FROM {name}) TO STDOUT (FORMAT csv, HEADER)", file)
        file.seek(0)
        digest.update(file.read())
    return digest.hexdigest()


def test_hard_table_goes_to_the_warehouse_and_back_byte_for_byte(project):
    project.source.run(HARD)
    project.land(DAY)
    project.load(DAY)
    report = project.landing("verify", DAY).stdout
    assert "7 of 7 tables equal" in report
    assert hashes(project)[TABLE] == copied_by_hand(project.source, TABLE)


def test_rows_in_the_warehouse_equal_the_rows_at_the_source(project):
    project.source.run(HARD)
    project.land(DAY)
    project.load(DAY)
    with project.source.connection.cursor() as cursor:
        table = sql.Identifier("public", TABLE).as_string(cursor)
        cursor.execute(f"SELECT * FROM {table} LIMIT 0")
        columns = ", ".join(f"{sql.Identifier(c.name).as_string(cursor)}::text" for c in cursor.description)
    query = f"SELECT {columns} FROM {table} ORDER BY part"
    assert project.warehouse.run(query) == project.source.run(query)


def test_types_are_the_sources_own_and_what_is_local_to_it_is_text(project):
    project.source.run(HARD)
    project.land(DAY)
    project.load(DAY)
    query = ("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped "
             "AND attrelid = 'public.\"Hard \"\"Table\"\", with spaces\"'::regclass ORDER BY attnum")
    source, warehouse = dict(project.source.run(query)), dict(project.warehouse.run(query))
    local = {"relation": "text", "feeling": "text", "feelings": "text", "built": "integer", "builts": "text",
             "both_": "text", "doc_xml": "text"}  # the embedded server has no libxml
    assert warehouse == {**source, **local}
    columns = {column["name"]: column for table in project.manifest("postgres", DAY)["tables"]
               for column in table["columns"]}
    assert columns["feeling"]["source_type"] == "mood"
    assert columns["built"]["source_type"] == "year"
    assert columns["exact"] == {"name": "exact", "type": "numeric(38,10)", "nullable": True, "source_type": None,
                                "comment": None}


def test_keys_stand_before_the_date(project):
    project.source.run(HARD)
    project.land(DAY)
    project.load(DAY)
    query = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid = %s::regclass"
    key = 'public_history."Hard ""Table"", with spaces"'
    assert project.warehouse.one(query, key) == 'PRIMARY KEY (part, "Id", extracted_at)'
    assert project.warehouse.run(query, "public_history.lonely") == []


def test_records_give_the_same_bytes_as_files(project):
    project.source.run(HARD)
    project.land(DAY)
    project.pipe(project.tap_postgres(use_batch=False), project.target_csv(), DATESTAMP="2024-03-02")
    project.pipe(project.tap_csv(use_batch=False), project.target_csv(), DATESTAMP="2024-03-02")
    for source in ("postgres", "csv"):
        assert hashes(project, source) == hashes(project, source, "2024-03-02")
        first, second = (project.manifest(source, day)["tables"] for day in (DAY, "2024-03-02"))
        assert [t["columns"] for t in first] == [t["columns"] for t in second]


def test_records_load_to_the_same_rows_as_files(project):
    project.source.run(HARD)
    project.land(DAY)
    project.pipe(project.tap_landed(use_batch=False), project.target_postgres(), EXTRACTED_AT=DAY)
    assert "7 of 7 tables equal" in project.landing("verify", DAY).stdout


def test_partitioned_source_table_is_landed_once_and_extensions_tables_not_at_all(project):
    project.source.run(HARD)
    project.source.run("CREATE EXTENSION pg_stat_statements")
    project.land(DAY, "postgres")
    names = {table["name"] for table in project.manifest("postgres", DAY)["tables"]}
    assert "parts" in names
    assert not {"parts_2024", "parts_2025", "pg_stat_statements"} & names


def test_names_cannot_leave_the_landing_root(project):
    project.source.run(HARD)
    project.land(DAY, "postgres")
    folders = {path.parent.parent for path in project.output.glob("source=*/**/*.csv")}
    assert folders == {project.output / "source=postgres" / f"extracted_at={DAY}"}
    assert not list(project.folder.rglob("up.csv"))
