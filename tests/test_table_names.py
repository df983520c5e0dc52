"""Sources whose tables have equal names load side by side: each into a schema or under a prefix of its own."""

import json
from contextlib import closing
from datetime import date
from unittest.mock import Mock

import pytest
from conftest import ROLES, ROOT
from dates import Dates, logger
from landing.core.errors import RefusedError, SettingError, WarehouseError
from landing.load.locks import SchemaLock
from landing.load.staging import Load
from landing.load.table_names import TableNames
from landing.load.warehouse import Warehouse
from landing.postgres.connect import connect
from landing.verify.reconcile import Reconciliation
from msgspec.structs import replace
from test_drop import landing

D1, D2, D3 = "2024-01-20", "2024-01-21", "2024-01-22"
SOURCES = ("postgres", "crm", "erp")
NAMES = {"crm": "crm.{table}", "erp": "erp_{table}"}
A = {"a": "integer"}


@pytest.fixture
def dates(project, monkeypatch):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))
    declare(project, *SOURCES, **NAMES)
    dates = Dates(project)
    dates.names = NAMES
    yield dates
    dates.close()


def declare(project, *sources, **names):
    """Declare these sources, and the setting table_names, as a person does."""
    path = project.folder / "meltano.yml"
    jobs = "\n".join(f"- name: extract_{source}\n  tasks: [tap-{source} target-csv]" for source in sources)
    text = path.read_text().replace("jobs:\n", f"jobs:\n{jobs}\n", 1).replace(
        "- name: extract_csv", "- name: other", 1).replace("- name: extract_postgres", "- name: another", 1)
    path.write_text(text.replace("      ssl_mode: $TARGET_POSTGRES_SSLMODE\n",
                                 f"      ssl_mode: $TARGET_POSTGRES_SSLMODE\n      table_names: {json.dumps(names)}\n"))


def same_names(dates, day, *sources, number=1, more=None):
    """Land a table `orders` in each source, with its own rows; `more`: other tables of all."""
    for place, source in enumerate(sources or SOURCES, 1):
        dates.land(day, source, orders=(A, [[str(10 * number + place)]]), **(more or {}))


def relations(dates):
    """Views and tables of history by schema, without partitions."""
    return sorted(name for name, in dates.run(
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('v', 'p') AND n.nspname !~ '^pg_|information_schema'"))


def test_equal_names_of_three_sources_load_side_by_side_and_verify(dates):
    for number, day in enumerate((D1, D2), 1):
        same_names(dates, day, number=number)
        dates.load(day, *SOURCES)
    assert dates.run("TABLE public.orders") == [(21,)]
    assert dates.run("TABLE crm.orders") == [(22,)]
    assert dates.run("TABLE public.erp_orders") == [(23,)]
    assert dates.run("SELECT a FROM crm_history.orders ORDER BY extracted_at") == [(12,), (22,)]
    for day in (D1, D2):
        proofs = dates.proofs(day, *SOURCES)
        assert [one.table for one in proofs] == ["orders", "crm.orders", "erp_orders"]
        assert all(one.holds for one in proofs)
    assert dates.run("SELECT DISTINCT source, table_schema, table_name, source_table FROM public_history._loads "
                     "ORDER BY 1") == [("crm", "crm", "orders", "orders"), ("erp", "public", "erp_orders", "orders"),
                                       ("postgres", "public", "orders", "orders")]


def test_a_landed_table_is_never_proved_by_the_partition_of_another(dates):
    """Of another source; or of another schema of its source, where an older version recorded no schemas."""
    for source in ("postgres", "crm"):
        dates.land(D1, source, orders=(A, [["1"]]))
    dates.load(D1)
    assert [one.holds for one in dates.proofs(D1)] == [True]
    assert [(one.holds, one.warehouse, one.problem) for one in dates.proofs(D1, "crm")] == [(False, None, "not loaded")]
    dates.run("UPDATE public_history._loads SET source_schema = NULL, source_table = NULL")
    assert [one.holds for one in dates.proofs(D1)] == [True]
    dates.land(D1, one=(A, [["1"]]), other=(A, [["1"]]))
    manifest = dates.zone.require("postgres", date.fromisoformat(D1))
    tables = [replace(table, name="orders", schema=schema)
              for table, schema in zip(manifest.tables, ("public", "sales"), strict=True)]
    prover = Reconciliation(dates.zone, dates.connection, "public")
    assert [one.problem for one in prover.tables(replace(manifest, tables=tables))] == [None, "not loaded"]


def test_a_reload_a_removed_table_and_an_older_date_behave_in_a_schema_of_its_own_as_anywhere(dates):
    for number, day in enumerate((D1, D2, D3), 1):
        same_names(dates, day, number=number, more={} if day == D3 else {"old": (A, [[str(number)]])})
    dates.names = {**NAMES, "postgres": "shop.{table}"}
    dates.load(D2, *SOURCES)
    dates.load(D3, "crm", "erp")  # a part of the sources
    assert dates.run("TABLE shop.old") == [(2,)]
    assert dates.run("TABLE crm.old") == dates.run("TABLE public.erp_old") == []
    assert dates.one("SELECT obj_description('crm.old'::regclass)") == f"Not in the source since {D3}: see crm_history."
    dates.load(D1, *SOURCES)
    assert (dates.run("TABLE crm.orders"), dates.run("TABLE shop.orders")) == ([(32,)], [(21,)])
    assert dates.run("SELECT a FROM crm_history.old ORDER BY 1") == [(1,), (2,)]
    assert dates.run("SELECT count(*) FROM pg_class WHERE relname LIKE '\\_staging%%'") == [(0,)]
    dates.land(D2, "crm", orders=(A, [["99"]]))  # extracted again, without the other table
    dates.load(D2, "crm")
    assert dates.run("SELECT a FROM crm_history.old") == [(1,)]
    assert all(one.holds for day in (D1, D2) for one in dates.proofs(day, *SOURCES))


def test_columns_that_are_added_widened_and_reordered_in_two_sources_at_once_keep_what_people_built(dates):
    shapes = [(A, [["1"]]), ({"b": "text", "a": "integer"}, [["x", "2"]]), ({"a": "bigint", "b": "text"}, [["3", "y"]])]
    dates.run("CREATE ROLE reader_of_crm; CREATE SCHEMA mine")
    for day, (columns, rows) in zip((D1, D2, D3), shapes, strict=True):
        for source in SOURCES:
            dates.land(day, source, orders=(columns, rows))
        dates.load(day, *SOURCES)
        if day == D1:
            dates.run("CREATE VIEW mine.both AS SELECT c.a AS c, e.a AS e FROM crm.orders c, erp_orders e;"
                      "GRANT SELECT ON crm.orders TO reader_of_crm; COMMENT ON VIEW crm.orders IS 'ours'")
    try:
        assert dates.run("TABLE mine.both") == [(3, 3)]
        assert dates.run("SELECT a, b FROM crm_history.orders ORDER BY extracted_at") == [(1, None), (2, "x"), (3, "y")]
        assert dates.one("SELECT has_table_privilege('reader_of_crm', 'crm.orders', 'SELECT')")
        assert dates.one("SELECT obj_description('crm.orders'::regclass)") == "ours"
        assert all(one.holds for day in (D1, D2, D3) for one in dates.proofs(day, *SOURCES))
    finally:
        dates.run("DROP OWNED BY reader_of_crm; DROP ROLE reader_of_crm")


@pytest.mark.parametrize(("template", "said"), [
    ("crm.{table}.{schema}", "more than one dot"), ("crm.orders", "lacks {table}"), ("{tabel}", "not a placeholder"),
    ("{table!r}", "not a placeholder"), ("{", "not a template"), (".{table}", "the schema is empty"),
    ("{table}.{table}", "depends on the table"), ("", "lacks {table}"), (7, "a template is a text"),
])
def test_a_template_that_is_none_is_refused_when_the_plugin_starts(template, said):
    with pytest.raises(SettingError, match="table_names of target-postgres, source crm") as refused:
        TableNames({"crm": template}, "public")
    assert said in str(refused.value)


@pytest.mark.parametrize(("template", "said"), [
    ("{schema}.{table}", "it has no schema in its source"), ("x_history.{table}", "hold the history of others"),
    ("x" * 56 + ".{table}", "names of 55 bytes at most"), ("x" * 58 + "_{table}", "PostgreSQL's limit is 63"),
    ("pg_x.{table}", "PostgreSQL reserves it"), ("information_schema.{table}", "PostgreSQL reserves it"),
])
def test_a_place_that_cannot_be_is_refused_before_anything_is_copied(dates, template, said):
    dates.names = {"crm": template}
    same_names(dates, D1, "crm")
    with pytest.raises(RefusedError) as refused:
        dates.load(D1, "crm")
    assert said in str(refused.value)
    assert "crm, table orders" in str(refused.value)
    assert relations(dates) == []


def test_names_that_meet_are_refused_by_name_on_one_date_and_on_different_ones(dates):
    dates.land(D1, "postgres", erp_orders=(A, [["1"]]))
    dates.land(D1, "erp", orders=(A, [["2"]]))
    with pytest.raises(RefusedError, match="orders of source erp and erp_orders of source postgres both map to table"):
        dates.load(D1, "postgres", "erp")
    dates.load(D1, "postgres")
    with pytest.raises(RefusedError, match=r"public_history\.erp_orders belongs to source postgres") as refused:
        dates.load(D1, "erp")
    assert 'table_names: {erp: "erp.{table}"}' in str(refused.value)
    assert dates.run("TABLE erp_orders") == [(1,)]


def test_a_template_for_a_source_that_nobody_knows_is_refused(dates):
    same_names(dates, D1, "crm")
    dates.names = {"cmr": "crm.{table}"}
    with pytest.raises(SettingError, match="names the source cmr, which is neither declared nor loaded"):
        dates.load(D1, "crm")


def test_two_tables_of_one_name_in_two_schemas_of_a_database_load_side_by_side(inside):
    shop = inside.project
    shop.source.run("CREATE SCHEMA crm; CREATE TABLE crm.orders AS SELECT 7 AS a;"
                    "ALTER TABLE orders ADD UNIQUE (customer, order_id)")
    inside.extract(D1)
    inside.extract(D1, "csv")
    inside.load(D1)
    inside.monkeypatch.setenv("TAP_POSTGRES_FILTER_SCHEMAS", '["public", "crm"]')
    assert "both map to table 'orders'" in inside.landing("certify", check=False).text
    inside.extract(D2, filter_schemas=["public", "crm"])
    inside.extract(D2, "csv")
    refused = inside.load(D2, check=False).text
    assert 'table_names: {postgres: "{schema}.{table}"}' in refused
    inside.monkeypatch.setenv("TARGET_POSTGRES_TABLE_NAMES", '{"postgres": "{schema}.{table}"}')
    assert "0 of them refused" in inside.landing("certify").text
    assert "refused" not in inside.landing("plan", "--from", D2, "--to", D2).text
    inside.load(D2, table_names={"postgres": "{schema}.{table}"})
    assert inside.landing("verify", D1).returncode == inside.landing("verify", D2).returncode == 0
    assert shop.warehouse.run("TABLE crm.orders") == [(7,)]
    assert shop.warehouse.one("SELECT count(*) FROM public.orders") == 100
    listed = json.loads(inside.landing("list", "--json").stdout)
    assert {one["loaded"] for one in listed} == {"yes"}
    assert "crm.orders" in inside.landing("show", D2).stdout
    assert "crm.orders" in inside.landing("diff", D1, D2).stdout


def test_drop_and_gc_of_a_date_go_through_all_schemas(dates):
    for number, day in enumerate((D1, D2, D3), 1):
        same_names(dates, day, number=number)
        dates.load(day, *SOURCES)
    dropped = landing("drop", D3, "--yes")
    assert "the views of crm go back to 2024-01-21" in dropped
    assert (dates.run("TABLE orders"), dates.run("TABLE crm.orders"), dates.run("TABLE erp_orders")) == (
        [(21,)], [(22,)], [(23,)])
    assert dates.run("SELECT a FROM crm_history.orders ORDER BY 1") == [(12,), (22,)]
    landing("gc", "--keep-days", "0", "--yes")
    assert dates.run("SELECT a FROM crm_history.orders") == [(22,)]
    assert dates.run("SELECT extracted_at::text, source FROM public_history._loads ORDER BY 2") == [
        (D2, source) for source in sorted(SOURCES)]
    assert dates.run("SELECT count(*) FROM pg_class WHERE relname LIKE '\\_staging%%'") == [(0,)]


class Killed(BaseException):
    pass


def test_gc_finds_what_a_killed_first_load_left_in_schemas_of_its_own(inside):
    warehouse, names = inside.project.warehouse, {"postgres": "{schema}.{table}", "csv": "files.{table}"}
    inside.project.source.run("CREATE SCHEMA crm; CREATE TABLE crm.orders AS SELECT 7 AS a")
    inside.extract(D1, filter_schemas=["public", "crm"])
    inside.extract(D1, "csv")
    with inside.monkeypatch.context() as patch:
        patch.setattr(Warehouse, "swap", Mock(side_effect=Killed))
        patch.setattr(Warehouse, "drop_staging", lambda _: None)
        with pytest.raises(Killed):
            inside.load(D1, table_names=names)
    left = {("staging table", name) for name, in warehouse.run(
        "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class WHERE relname LIKE '\\_staging%%' "
        "AND relkind = 'r'")}
    assert {name.split(".")[0] for _, name in left} == {"public_history", "crm_history", "files_history"}
    inside.monkeypatch.setenv("TARGET_POSTGRES_TABLE_NAMES", json.dumps(names))
    assert {(one["kind"], one["what"]) for one in json.loads(inside.landing("gc", "--json", "--yes").stdout)} == left
    assert inside.landing("gc", "--yes").stdout == "Nothing to remove.\n"
    inside.load(D1, table_names=names)
    assert warehouse.run("TABLE crm.orders") == [(7,)]
    inside.landing("gc", "--schema", "test", "--yes")


def test_another_schema_takes_its_own_tables_and_never_those_of_the_first(shop, inside):
    shop.source.run("ALTER TABLE orders RENAME TO o")
    inside.extract(D1)
    inside.extract(D1, "csv")
    names = {"csv": "files.{table}"}
    inside.load(D1, table_names=names)
    refused = inside.load(D1, check=False, table_names=names, default_target_schema="test").text
    assert "Tables of schema files belong to the loads with SCHEMA=public, and this one has SCHEMA=test" in refused
    assert "belong to the loads with SCHEMA=public" in inside.load(
        D1, check=False, table_names={}, default_target_schema="files").text
    inside.load(D1, table_names={"csv": "{target_schema}_files.{table}"}, default_target_schema="test")
    assert inside.landing("verify", D1, "--schema", "test").returncode == 0
    assert inside.proved(D1)
    assert shop.warehouse.one("SELECT count(*) FROM test_files.order_details") == 2


def test_a_load_waits_for_another_one_of_any_of_its_schemas_and_holds_none_meanwhile(dates):
    same_names(dates, D1, "crm")
    manifest = dates.zone.require("crm", date.fromisoformat(D1))
    with closing(connect(dates.project.warehouse.dsn(), "other")) as other:
        held = SchemaLock(other, lambda: ["crm"], logger)
        assert held.acquire(0)
        warehouse = Warehouse(dates.connection, "public", logger, names=NAMES)
        load = warehouse.names.placed(Load("crm", manifest.extracted_at, manifest.run_id, manifest.taken_at,
                                           manifest.tables[0]))
        with pytest.raises(WarehouseError, match="waiting for another load of schema crm: pid"):
            warehouse.acquire(0, [load])
        both = SchemaLock(other, lambda: ["public", "crm"], logger)
        assert both.acquire(0)
        both.release()
        held.release()
    dates.load(D1, "crm")
    assert dates.run("TABLE crm.orders") == [(11,)]


def test_a_schema_that_the_role_may_not_create_is_said_with_what_to_run_before_anything_is_copied(inside):
    shop, names = inside.project, {"csv": "files.{table}"}
    if shop.warehouse.user == "tester":
        shop.warehouse.let_in_as(*ROLES["warehouse"])
    shop.warehouse.run(f"REVOKE CREATE ON DATABASE {shop.warehouse.name} FROM warehouse_loader")
    inside.extract(D1)
    inside.extract(D1, "csv")
    refused = inside.load(D1, check=False, table_names=names).text
    assert "has no schema files, files_history, and its role warehouse_loader may not create one" in refused
    assert 'CREATE SCHEMA "files" AUTHORIZATION "warehouse_loader"' in refused
    assert "rows" not in refused
    roles = (ROOT / ROLES["warehouse"][1]).read_text().replace("ARRAY['public']", "ARRAY['public', 'files']")
    shop.warehouse.run(roles)
    inside.load(D1, table_names=names)
    assert shop.warehouse.one("SELECT count(*) FROM files.order_details") == 2


def test_foreign_keys_in_comments_name_the_tables_of_the_warehouse(inside):
    shop = inside.project
    shop.source.run("CREATE SCHEMA crm; CREATE TABLE crm.customers (id integer PRIMARY KEY);"
                    "ALTER TABLE notes ADD FOREIGN KEY (order_id) REFERENCES crm.customers NOT VALID")
    inside.extract(D1, filter_schemas=["public", "crm"])
    inside.extract(D1, "csv")
    inside.load(D1, table_names={"postgres": "{schema}.p_{table}"})
    comment = "SELECT col_description('public.p_notes'::regclass, 1)"
    assert shop.warehouse.one(comment) == "Foreign key to crm.p_customers (id)"


def test_records_of_tables_with_equal_names_arrive_apart_too(inside):
    """As for third-party plugins: RECORD messages, whose streams need names of their own."""
    inside.project.csv("o.csv", "a\n1\n")
    inside.extract(D1)
    inside.extract(D1, "csv", files=[{"entity": "public-orders", "path": "extract/o.csv"}])
    inside.load(D1, batches=False, table_names={"csv": "files.{table}"})
    assert inside.proved(D1)
    assert inside.project.warehouse.run('TABLE files."public-orders"') == [(1,)]
