"""The SQL files of extract/roles and load/roles give each role what it needs, and nothing else."""

import contextlib
import json

import psycopg2
import pytest
from conftest import PASSWORD, ROLES, ROOT, Project, databases
from psycopg2 import errors as pg_errors

D1, D2, D3 = "2024-01-20", "2024-01-21", "2024-01-22"
ANALYST = (ROOT / "load/roles/analyst.sql").read_text()


@pytest.fixture(scope="module")
def mart(server, tmp_path_factory):
    """A warehouse into which an administrator loaded a date; then come the roles, and Ada, who is an analyst."""
    with databases(server) as make:
        project = Project(tmp_path_factory.mktemp("mart") / "project", make("source"), make("warehouse"))
        config = (project.folder / "meltano.yml").read_text()
        (project.folder / "meltano.yml").write_text(config.replace("- name: extract_csv", "- name: other"))
        source, warehouse = project.source, project.warehouse
        source.run(
            "CREATE TABLE orders (order_id smallint PRIMARY KEY, customer text, freight real);"
            "INSERT INTO orders SELECT g, 'c' || g % 7, g / 4.0 FROM generate_series(1, 100) g;"
            "CREATE TABLE notes (order_id integer, note text);"
            "INSERT INTO notes SELECT g % 10, 'n' FROM generate_series(1, 40) g")
        source.let_in_as(*ROLES["source"])
        source.run("CREATE TABLE later (id integer); INSERT INTO later VALUES (1); CREATE VIEW seen AS TABLE later")
        project.land(D1, "postgres")
        warehouse.user = "tester"
        project.load(D1)
        warehouse.let_in_as(*ROLES["warehouse"])
        warehouse.run(ANALYST)
        warehouse.run("CREATE ROLE ada LOGIN IN ROLE analyst PASSWORD %s", PASSWORD)
        with (project.folder / ".env").open("a") as env:
            env.write(f"SOURCE_POSTGRES_USER={source.user}\nTARGET_POSTGRES_USER={warehouse.user}\n")
        yield project
        warehouse.run("DROP OWNED BY analyst; DROP ROLE ada, analyst")


def as_role(database, user):
    connection = psycopg2.connect(host=database.host, port=database.port, dbname=database.name, user=user,
                                  password=PASSWORD)
    connection.autocommit = True
    return contextlib.closing(connection)


def answers(database, user, *statements):
    """What each statement gives that role: its first value, or the class of the refusal."""
    found = []
    with as_role(database, user) as connection, connection.cursor() as cursor:
        for statement in statements:
            try:
                cursor.execute(statement)
                found.append(cursor.fetchone()[0] if cursor.description else None)
            except psycopg2.Error as error:
                found.append(type(error))
    return found


def test_the_loader_loads_widens_reloads_proves_and_tidies_up_and_the_analyst_reads_on(mart):
    counts = ["SELECT count(*) FROM orders", "SELECT count(*) FROM notes", "SELECT count(*) FROM seen"]
    assert answers(mart.warehouse, "ada", *counts) == [100, 40, 1]
    # Columns come, go and widen, so that views have to be dropped and made anew, with one of the loader's own on them.
    with as_role(mart.warehouse, mart.warehouse.user) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE VIEW mine AS SELECT count(*) AS many, max(order_id) AS newest FROM orders")
    mart.source.run("ALTER TABLE orders DROP freight, ALTER order_id TYPE bigint, ADD extra text;"
                    "DELETE FROM orders WHERE order_id > 90; DROP TABLE notes; CREATE TABLE fresh (id integer)")
    mart.land(D2, "postgres")
    mart.load(D2)
    now = [90, 0, 1, 90, 0]
    reads = [*counts, "SELECT many FROM mine", "SELECT count(*) FROM fresh"]
    assert answers(mart.warehouse, "ada", *reads) == now
    mart.load(D1, RELOAD="true")
    assert answers(mart.warehouse, "ada", *reads) == now
    for day in (D1, D2):
        proofs = json.loads(mart.landing("verify", day, "--json").stdout)
        assert len(proofs) == 4
        assert all(one["equal"] for one in proofs)
    assert "orders" in mart.landing("diff", D1, D2, "--rows", "2").stdout
    mart.warehouse.run("SET ROLE warehouse_loader; CREATE TABLE public_history._staging_x (a integer); RESET ROLE")
    said = mart.landing("gc", "--keep-days", "0", "--yes").stdout
    assert "staging table" in said
    assert "loaded date" in said
    assert mart.warehouse.run("SELECT DISTINCT extracted_at::text FROM public_history.orders") == [(D2,)]
    assert answers(mart.warehouse, "ada", *reads) == now


def test_each_role_is_refused_what_it_does_not_need(mart):
    denied, read_only = pg_errors.InsufficientPrivilege, pg_errors.ReadOnlySqlTransaction
    assert answers(
        mart.warehouse, "ada", "SELECT 1 FROM public_history.orders", "SELECT 1 FROM public_history._loads",
        "CREATE TABLE public_history.mine (a integer)", "DELETE FROM orders", "INSERT INTO orders VALUES (1)",
        "CREATE TABLE public.mine (a integer)", "CREATE SCHEMA mine", "DROP VIEW orders",
        "CREATE VIEW public.leak AS SELECT 1", "SET ROLE warehouse_loader",
    ) == [denied] * 10
    assert answers(
        mart.warehouse, "warehouse_loader", "CREATE SCHEMA other", "CREATE DATABASE other", "CREATE ROLE other",
        "SELECT rolpassword FROM pg_authid", "COPY orders TO PROGRAM 'cat'", "SELECT pg_read_file('/etc/passwd')",
    ) == [denied] * 6
    writes = ["INSERT INTO later VALUES (1)", "DELETE FROM orders", "TRUNCATE later", "CREATE TABLE mine (a integer)",
              "DROP TABLE later"]
    assert answers(mart.source, "source_reader", *writes) == [read_only] * len(writes)
    for write in writes:
        assert answers(mart.source, "source_reader", f"BEGIN READ WRITE; {write}") == [denied]
    assert mart.source.one("SELECT count(*) FROM later") == 1


def test_a_schema_that_the_loader_has_no_rights_in_is_refused_with_what_to_do(mart):
    day = max(path.parent.name for path in mart.output.glob("source=*/*/_manifest.json")).split("=")[1]
    result = mart.load(day, check=False, SCHEMA="mart")
    assert result.returncode != 0
    assert "has no schema mart, mart_history, and its role warehouse_loader may not create one" in result.text
    assert 'CREATE SCHEMA "mart" AUTHORIZATION "warehouse_loader"' in result.text
    assert "load/roles/warehouse_loader.sql" in result.text
    assert "Traceback" not in result.text
    mart.warehouse.run((ROOT / ROLES["warehouse"][1]).read_text().replace("ARRAY['public']", "ARRAY['public', 'mart']"))
    mart.load(day, SCHEMA="mart")
    assert mart.warehouse.one("SELECT count(*) FROM mart.later") == 1


def test_a_table_that_the_reader_may_not_read_stops_the_extract(mart):
    mart.source.run("REVOKE SELECT ON later FROM source_reader")
    try:
        result = mart.run(mart.tap_postgres(), DATESTAMP=D3)
    finally:
        mart.source.run("GRANT SELECT ON later TO source_reader")
    assert result.returncode == 1
    assert "Permission denied on source tables: public.later" in result.text
    assert "extract/roles/source_reader.sql" in result.text
    assert "Traceback" not in result.text
