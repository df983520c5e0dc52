"""All tables of a source's date come from one moment: views, materialized views and partitions too."""

import contextlib

import psycopg2
import pytest
from conftest import PASSWORD
from landing.extract.postgres import snapshot
from landing.postgres import copy

DAY = "2024-01-20"


@contextlib.contextmanager
def before(monkeypatch, owner, name, action, always=False):
    """Do something before a function's first call (or before each)."""
    original, calls = getattr(owner, name), []

    def with_action(*arguments, **named):
        calls.append(name)
        if always or len(calls) == 1:
            action()
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, with_action)
        yield
    assert calls, f"{name} was not called"


def barred(source, *statements):
    """What tries statements of another session, and ends each that has to wait for a lock."""
    waited = []

    def run():
        for statement in statements:
            with contextlib.closing(source.connect()) as connection, connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '300ms'")
                try:
                    cursor.execute(statement)
                except psycopg2.errors.LockNotAvailable:
                    waited.append(statement)

    return run, waited


def rows(project):
    return {table["name"]: table["rows"] for table in project.manifest("postgres", DAY)["tables"]}


@pytest.fixture
def hidden(inside):
    """Views over tables that are not selected: through a view, a partition, another owner's view, the invoker's."""
    source = inside.project.source
    source.run(f"CREATE ROLE r{source.name} LOGIN PASSWORD %s", PASSWORD)
    source.run(f"""
        CREATE SCHEMA hidden;
        CREATE TABLE hidden.base (id integer, v text);
        INSERT INTO hidden.base SELECT g, 'x' FROM generate_series(1, 50) g;
        CREATE TABLE hidden.parted (id integer) PARTITION BY RANGE (id);
        CREATE TABLE hidden.low PARTITION OF hidden.parted FOR VALUES FROM (0) TO (100);
        INSERT INTO hidden.parted SELECT generate_series(1, 30);
        CREATE VIEW hidden.between AS SELECT id FROM hidden.parted;
        CREATE VIEW a_deep AS SELECT b.id FROM hidden.base b LEFT JOIN hidden.between USING (id);
        CREATE VIEW a_parted AS SELECT * FROM hidden.between;
        CREATE MATERIALIZED VIEW stored AS SELECT id FROM hidden.base;
        CREATE VIEW a_stored AS SELECT count(*) FROM stored;
        CREATE ROLE half{source.name};
        GRANT USAGE ON SCHEMA hidden TO half{source.name};
        GRANT SELECT (id) ON hidden.base TO half{source.name};
        CREATE VIEW a_half AS SELECT id FROM hidden.base;
        ALTER VIEW a_half OWNER TO half{source.name};
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO r{source.name}""")
    user, source.user = source.user, f"r{source.name}"
    yield inside
    source.user = user
    source.run(f"DROP OWNED BY half{source.name}, r{source.name} CASCADE; DROP ROLE half{source.name}, r{source.name}")


def test_what_a_view_reads_is_not_emptied_between_the_snapshot_and_its_copy(hidden, monkeypatch):
    source = hidden.project.source
    run, waited = barred(source, "TRUNCATE hidden.base", "TRUNCATE hidden.low",
                         "ALTER TABLE hidden.base ALTER v TYPE varchar(9)", "REFRESH MATERIALIZED VIEW stored")
    for connections in (2, 1):
        with before(monkeypatch, copy, "copy_out", run):
            hidden.extract(DAY, connections=connections)
    assert len(waited) == 8
    expected = {"a_deep": 50, "a_half": 50, "a_parted": 30, "a_stored": 1, "stored": 50}
    assert {name: rows(hidden.project)[name] for name in expected} == expected


def test_a_view_whose_owner_may_read_single_columns_only_is_locked_too(hidden, monkeypatch):
    source = hidden.project.source
    source.run("DROP VIEW a_deep, a_parted, a_stored; DROP MATERIALIZED VIEW stored")
    run, waited = barred(source, "TRUNCATE hidden.base")
    with before(monkeypatch, copy, "copy_out", run):
        hidden.extract(DAY)
    assert waited
    assert rows(hidden.project)["a_half"] == 50


def test_what_changes_between_snapshot_and_lock_is_taken_again_and_refused_in_the_end(hidden, monkeypatch, caplog):
    source = hidden.project.source
    monkeypatch.setattr(snapshot, "PAUSE", 0)
    caplog.set_level("INFO")

    grow, _ = barred(source, "INSERT INTO hidden.base VALUES (0); REFRESH MATERIALIZED VIEW stored")

    with before(monkeypatch, snapshot, "lock_by_planning", grow):
        said = hidden.extract(DAY).text
    assert "changed while the snapshot was taken" in said
    assert rows(hidden.project) | {"stored": 51, "a_deep": 51} == rows(hidden.project)
    landed = hidden.project.landed()
    with before(monkeypatch, snapshot, "lock_by_planning", grow, always=True):
        failed = hidden.extract(DAY, check=False)
    assert failed.returncode == 1
    assert "public.stored changed each of 20 times" in failed.text.replace(" (read by public.a_stored), public.stored",
                                                                           "")
    assert hidden.project.landed() == landed


def test_a_partition_with_rows_that_is_attached_during_the_extract_is_refused_and_a_new_one_is_not(inside, monkeypatch):
    source = inside.project.source
    source.run("CREATE TABLE parted (id integer) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF parted "
               "FOR VALUES IN (1); INSERT INTO parted VALUES (1)")
    with before(monkeypatch, copy, "copy_out", lambda: source.run(
            "CREATE TABLE p2 (id integer); ALTER TABLE parted ATTACH PARTITION p2 FOR VALUES IN (2); "
            "INSERT INTO parted VALUES (2)")):
        inside.extract(DAY)
    assert rows(inside.project)["parted"] == 1
    source.run("CREATE SCHEMA other; CREATE TABLE other.p3 (id integer); INSERT INTO other.p3 VALUES (3)")
    landed = inside.project.landed()
    with before(monkeypatch, copy, "copy_out", lambda: source.run(
            "ALTER TABLE parted ATTACH PARTITION other.p3 FOR VALUES IN (3)")):
        failed = inside.extract(DAY, check=False)
    assert failed.returncode == 1
    assert "other.p3 (read by public.parted) was attached during the extract" in failed.text
    assert inside.project.landed() == landed


def test_rows_of_foreign_tables_are_said_to_be_of_another_moment(inside, caplog):
    source = inside.project.source
    source.run("""
        CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
        CREATE FOREIGN TABLE outside (id integer) SERVER files OPTIONS (program 'echo 7', format 'csv');
        CREATE TABLE parted (id integer) PARTITION BY LIST (id);
        CREATE TABLE parent (id integer); CREATE TABLE own (id integer);
        CREATE FOREIGN TABLE part7 PARTITION OF parted FOR VALUES IN (7) SERVER files OPTIONS (program 'echo 7');
        CREATE FOREIGN TABLE child () INHERITS (parent) SERVER files OPTIONS (program 'echo 7');
        CREATE VIEW over AS SELECT * FROM parted""")
    caplog.set_level("INFO")
    said = inside.extract(DAY).text
    found = {table["name"]: table.get("not_of_snapshot") for table in
             inside.project.manifest("postgres", DAY)["tables"]}
    assert found == {"outside": ["public.outside"], "parted": ["public.part7"], "parent": ["public.child"],
                     "child": ["public.child"], "over": ["public.part7"], "own": None, "orders": None, "notes": None}
    assert "public.over reads foreign tables (public.part7)" in said
    certified = inside.landing("certify").stdout
    for name in ("outside", "parted", "parent", "child", "over"):
        assert f"public.{name} " in certified
    assert certified.count("other moment") == 5
    inside.extract(DAY, "csv")
    inside.load(DAY)
