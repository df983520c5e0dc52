"""Checks of whole tables block the swap: the views stay as they were, and the error and the status say which check."""

import json

import pytest
import yaml
from conftest import ROOT
from landing.load.refusals import REFUSED

FIRST, SECOND, THIRD = "2024-01-20", "2024-01-21", "2024-01-22"
PAGE = (ROOT / "docs/how-to/contracts.md").read_text()
KEPT = {  # of `orders`: 100 rows, all keep it
    "min_rows": 100, "max_change": "10%",
    "columns": {"order_id": {"required": True, "unique": True, "minimum": 1, "maximum": 100},
                "customer": {"pattern": "c[0-6]", "enum": [f"c{number}" for number in range(7)]}},
    "checks": {"freight_fits": "freight = order_id / 4.0 -- and so on", "never": "NULL"},
}


def of_orders(**checks):
    return {"postgres": {"orders": checks}}


def refusals(project):
    return project.warehouse.run(f"SELECT table_name, check_name FROM public_history.{REFUSED} ORDER BY 1, 2")


@pytest.fixture
def loaded(inside):
    """The first date is landed and loaded, with checks that hold; the second is landed."""
    inside.extract(FIRST)
    inside.extract(FIRST, "csv")
    inside.load(FIRST, checks=of_orders(**KEPT))
    return inside


def broken(inside, statement):
    """Change the source, and land the second date."""
    inside.project.source.run(statement)
    inside.extract(SECOND)
    inside.extract(SECOND, "csv")


def test_what_keeps_all_checks_is_loaded_and_nothing_is_recorded(loaded):
    assert loaded.project.warehouse.one("SELECT count(*) FROM orders") == 100
    assert loaded.project.warehouse.one("SELECT to_regclass(%s)", f"public_history.{REFUSED}") is None


BROKEN = {
    "min_rows: expected at least 100 rows, found 99": "DELETE FROM orders WHERE order_id = 1",
    "max_change: expected a change of at most 10% from the 100 rows of 2024-01-20, found 111 rows (+11.0%)":
        "INSERT INTO orders SELECT g, 'c1', g / 4.0 FROM generate_series(101, 111) g",
    "required of column order_id": None,
    "maximum of column order_id: expected at most 100, found 1 of 101 rows that do not keep it, such as order_id 101":
        "INSERT INTO orders VALUES (101, 'c1', 25.25)",
    "minimum of column order_id: expected at least 1, found 1 of 100 rows that do not keep it, such as order_id 0":
        "UPDATE orders SET order_id = 0, freight = 0 WHERE order_id = 1",
    "pattern of column customer: expected texts that match 'c[0-6]', found 1 of 100 rows that do not keep it, such as "
    "order_id 1, customer c10": "UPDATE orders SET customer = 'c10' WHERE order_id = 1",
    "enum of column customer: expected one of c0, c1, c2, c3, c4, c5, c6, found 2 of 100 rows": "UPDATE orders SET "
    "customer = 'C1' WHERE order_id < 3",
    "freight_fits: expected freight = order_id / 4.0 -- and so on, found 1 of 100 rows that do not keep it, such as "
    "order_id 7": "UPDATE orders SET freight = 9 WHERE order_id = 7",
}


@pytest.mark.parametrize("found", [one for one, change in BROKEN.items() if change])
def test_a_check_that_does_not_hold_leaves_yesterday_visible_and_is_named(loaded, found):
    warehouse = loaded.project.warehouse
    before = warehouse.run("SELECT * FROM orders ORDER BY 1")
    broken(loaded, BROKEN[found])
    result = loaded.load(SECOND, check=False, checks=of_orders(**KEPT))
    assert result.returncode
    assert f"postgres, table public.orders, {found}" in result.text
    assert "the date is not loaded and the views are unchanged" in result.text
    assert f"Then run: MELTANO_ENVIRONMENT=load SCHEMA=public EXTRACTED_AT={SECOND} meltano run" in result.text
    assert warehouse.run("SELECT * FROM orders ORDER BY 1") == before
    assert warehouse.one("SELECT count(*) FROM public_history._loads WHERE extracted_at = %s", SECOND) == 0


def test_all_checks_that_do_not_hold_are_reported_at_once_and_the_next_load_that_passes_clears_them(loaded):
    broken(loaded, "DELETE FROM orders WHERE order_id > 10; UPDATE orders SET customer = NULL WHERE order_id = 1;"
                   "INSERT INTO notes SELECT 1, 'n' FROM generate_series(1, 100)")
    checks = {"postgres": {"public.orders": {**KEPT, "columns": {"customer": {"required": True, "unique": True}}},
                           "notes": {"max_change": "50 %", "checks": {"by_zero": "order_id / 0 > 1"}}}}
    result = loaded.load(SECOND, check=False, checks=checks)
    for found in ("min_rows: expected at least 100 rows, found 10", "max_change", "required of column customer",
                  "unique of column customer: expected each value in one row, found ", "table public.notes, max_change",
                  "by_zero: expected order_id / 0 > 1, found an error: division by zero"):
        assert found in result.text
    assert refusals(loaded.project) == [
        ("public.notes", "by_zero"), ("public.notes", "max_change"), ("public.orders", "max_change"),
        ("public.orders", "min_rows"), ("public.orders", "required of column customer"),
        ("public.orders", "unique of column customer")]
    loaded.load(SECOND, check=False, checks=of_orders(min_rows=11))
    assert refusals(loaded.project) == [("public.orders", "min_rows")]
    loaded.load(SECOND, checks=of_orders(min_rows=10))
    assert refusals(loaded.project) == []
    assert loaded.project.warehouse.one("SELECT count(*) FROM orders") == 10


def test_the_status_names_the_check_in_words_json_and_metrics_until_it_passes(loaded, tmp_path):
    broken(loaded, "DELETE FROM orders WHERE order_id > 10")
    loaded.load(SECOND, check=False, checks=of_orders(min_rows=11))
    metrics = tmp_path / "landing.prom"
    said = loaded.landing("status", "--metrics", str(metrics)).stdout
    assert f"postgres of {SECOND}: refused. Checks blocked its load at " in said
    assert "public.orders, min_rows: expected at least 11 rows, found 10. The views are unchanged." in said
    assert f'landing_refused_check{{source="postgres",date="{SECOND}",table="public.orders",check="min_rows"}} 1' in (
        metrics.read_text())
    date = json.loads(loaded.landing("status", "--json").stdout)["sources"][0]["dates"][-1]
    assert (date["state"], date["refused"]) == ("refused", [
        {"table": "public.orders", "check": "min_rows", "expected": "at least 11 rows", "found": "10"}])
    loaded.extract(SECOND)  # another run: what was refused is not what is landed now
    assert "refused" not in loaded.landing("status").stdout
    loaded.load(SECOND, checks=of_orders(min_rows=10))
    assert "refused" not in loaded.landing("status").stdout


def test_checks_that_blocked_a_date_go_with_it_by_drop_and_by_gc(loaded):
    broken(loaded, "DELETE FROM orders WHERE order_id > 10")

    def refuse():
        loaded.load(SECOND, check=False, checks=of_orders(min_rows=11))
        assert refusals(loaded.project) == [("public.orders", "min_rows")]

    refuse()
    assert "refused load" not in loaded.landing("drop", SECOND, "--source", "csv").stdout
    loaded.landing("drop", SECOND, "--source", "csv", "--yes")
    assert refusals(loaded.project)
    assert "refused load" in loaded.landing("drop", SECOND, "--yes").stdout
    assert refusals(loaded.project) == []
    loaded.load(FIRST, check=False, reload=True, checks=of_orders(min_rows=101))
    broken(loaded, "SELECT")
    loaded.load(SECOND, check=False, checks=of_orders(min_rows=11))
    loaded.landing("drop", FIRST, "--yes")
    assert refusals(loaded.project) == [("public.orders", "min_rows")]
    loaded.extract(THIRD)
    loaded.extract(THIRD, "csv")
    loaded.load(THIRD)
    loaded.landing("gc", "--keep-days", "0", "--yes")
    assert refusals(loaded.project) == []


def test_a_check_that_is_declared_later_runs_with_reload_and_leaves_what_is_loaded(loaded):
    loaded.load(FIRST, checks=of_orders(min_rows=101))  # loaded already: nothing to check
    result = loaded.load(FIRST, check=False, reload=True, checks=of_orders(min_rows=101))
    assert "min_rows: expected at least 101 rows, found 100" in result.text
    assert loaded.project.warehouse.one("SELECT count(*) FROM orders") == 100
    assert "refused. Checks blocked its load" in loaded.landing("status").stdout
    loaded.load(FIRST, reload=True, checks=of_orders(min_rows=100))
    assert "refused" not in loaded.landing("status").stdout


def test_foreign_keys_hold_among_the_tables_of_the_date_staged_or_not(loaded):
    source = loaded.project.source
    source.run("CREATE TABLE lines (line integer, part integer, order_id smallint REFERENCES orders, "
               "PRIMARY KEY (line, part)); INSERT INTO lines VALUES (1, 1, 7), (2, 1, NULL);"
               "CREATE TABLE pieces (line integer, part integer, FOREIGN KEY (line, part) REFERENCES lines);"
               "INSERT INTO pieces VALUES (1, 1), (1, NULL)")
    checks = {"postgres": {"lines": {"foreign_keys": True}, "pieces": {"foreign_keys": True}}}
    loaded.extract(SECOND)
    loaded.extract(SECOND, "csv")
    loaded.load(SECOND, checks=checks)
    source.run("SET session_replication_role = replica; DELETE FROM orders WHERE order_id = 7;"
               "INSERT INTO pieces VALUES (5, 6)")
    loaded.extract(SECOND)
    result = loaded.load(SECOND, check=False, checks=checks)
    assert ("table public.lines, foreign_keys: expected a row of public.orders for each (order_id), found 1 rows "
            "without one, such as order_id 7") in result.text
    assert "table public.pieces, foreign_keys: expected a row of public.lines for each (line, part)" in result.text
    assert "line, part 5, 6" in result.text


@pytest.mark.parametrize(("checks", "reason"), [
    ({"crm": {"orders": {"min_rows": 1}}}, "crm.orders: there is no such source. Known sources: csv, postgres"),
    ({"postgres": {"order": {"min_rows": 1}}}, "postgres.order: there is no such table. These are landed: "),
    ({"postgres": {"orders": {"min_row": 1}}}, "postgres.orders.min_row: 1 is not a check"),
    (of_orders(min_rows="many"), "min_rows='many' is not a number of rows"),
    (of_orders(max_change=50), "max_change=50 is not a percentage, such as 50%"),
    (of_orders(columns={"freigt": {"minimum": 0}}), "minimum: there is no column freigt. The table has: order_id, "),
    (of_orders(columns={"freight": {"minimum": "low"}}), "minimum of column freight cannot be run: invalid input"),
    (of_orders(columns={"customer": {"pattern": "("}}), "pattern of column customer cannot be run: invalid regular"),
    (of_orders(checks={"c": "freigt > 0"}), 'the check c cannot be run: column "freigt" does not exist'),
    (of_orders(checks={"c": "freight + 1"}), "the check c cannot be run: argument of CHECK"),
    (of_orders(checks={"c": "freight > (SELECT 1)"}), "cannot use subquery in check constraint"),
    (of_orders(checks={"c": "true); COMMIT; DROP TABLE public_history._loads; SELECT (1"}), "cannot be run: "),
    (of_orders(foreign_keys=True), "foreign_keys: the manifest has none of this table"),
])
def test_checks_that_cannot_be_run_are_refused_by_name_before_the_swap_and_by_the_plan(loaded, checks, reason,
                                                                                      monkeypatch):
    broken(loaded, "DELETE FROM orders WHERE order_id > 90")
    result = loaded.load(SECOND, check=False, checks=checks)
    assert result.returncode
    assert reason in result.text
    assert loaded.project.warehouse.one("SELECT count(*) FROM orders") == 100
    if "manifest has none" not in reason:
        monkeypatch.setenv("TARGET_POSTGRES_CHECKS", json.dumps(checks))
        plan = loaded.landing("plan", "--from", SECOND, "--to", SECOND, check=False)
        assert plan.returncode
        assert reason in plan.text


def test_a_table_with_another_name_and_columns_that_history_widened_are_checked_as_landed(inside):
    inside.project.source.run("CREATE TABLE odd (extracted_at integer, \"a.b\" text); INSERT INTO odd VALUES (10, 'x')")
    names = {"postgres": "land_{schema}.x_{table}"}
    for day in (FIRST, SECOND):
        inside.extract(day)
        inside.extract(day, "csv")
        checks = {"postgres": {"public": {"odd": {  # as Meltano nests public.odd, and a.b
            "columns": {"extracted_at": {"minimum": 9}, "a": {"b": {"enum": ["x"]}}},
            "checks": {"c": 'extracted_at > 1 AND "a.b" < \'y\''}}}}}
        inside.load(day, table_names=names, checks=checks if day == FIRST else of_orders(min_rows=1))
        inside.project.source.run("ALTER TABLE odd ALTER extracted_at TYPE text")
    inside.project.source.run("ALTER TABLE odd ALTER extracted_at TYPE integer USING extracted_at::integer;"
                              "UPDATE odd SET extracted_at = 8")
    inside.extract(SECOND)
    result = inside.load(SECOND, check=False, table_names=names, checks=checks)
    assert "table public.odd, minimum of column extracted_at: expected at least 9, found 1 of 1 rows" in result.text


def test_a_csv_entity_is_checked_without_a_schema_and_as_records(loaded):
    loaded.extract(SECOND)
    loaded.extract(SECOND, "csv")
    checks = {"csv": {"order_details": {"min_rows": 3}}}
    for batches in (True, False):
        result = loaded.load(SECOND, check=False, batches=batches, checks=checks)
        assert "csv, table order_details, min_rows: expected at least 3 rows, found 2" in result.text


def test_the_documented_checks_and_their_message_are_those_of_a_load(loaded):
    loaded.project.source.run(
        "DROP TABLE orders; CREATE TABLE orders (order_id integer PRIMARY KEY, customer_id text, freight real, "
        "ship_via smallint, order_date date, shipped_date date);"
        "INSERT INTO orders SELECT g, 'ALFKI', g, 1, '2024-01-01', NULL FROM generate_series(1, 100) g")
    loaded.extract(SECOND)
    loaded.extract(SECOND, "csv")
    checks = yaml.safe_load(PAGE.split("```yaml\n")[2].split("```")[0])["checks"]
    checks["postgres"]["orders"]["foreign_keys"] = False  # this source has none
    message = PAGE.split("```text\n")[3].split("\n```")[0]
    assert message in loaded.load(SECOND, check=False, checks=checks).text


def test_contract_and_checks_of_meltano_yml_hold_in_a_whole_run(shop):
    yml = shop.folder / "meltano.yml"
    entry = {"on_bad_rows": "quarantine", "derive": {"total": "round(quantity * unit_price, 2)"},
             "checks": {"not.many": "quantity < 100"},
             "columns": {"quantity": {"type": "integer"}, "total": {"type": "numeric(9,2)"},
                         "unit_price": {"type": "numeric(6,2)", "minimum": 0, "enum": [14, 9.8]}}}
    checks = {"csv": {"order_details": {"min_rows": 2}},
              "postgres": {"public.orders": {"max_change": "50%", "checks": {"not.many": "order_id < 99"}}}}
    declared = yaml.safe_load(yml.read_text())
    taps = {tap["name"]: tap for tap in declared["plugins"]["extractors"]}
    taps["tap-csv"]["config"]["files"][0] |= entry
    loaders = {target["name"]: target for target in declared["plugins"]["loaders"]}
    loaders["target-postgres"]["config"]["checks"] = checks
    yml.write_text(yaml.safe_dump(declared, sort_keys=False))
    shop.csv("order_details.csv", "order_id,product_id,unit_price,quantity,discount\n1,11,14,12,0\n1,42,9.80,10,0.15\n"
                                  "2,1,9.8,100,0\n2,2,-1,1,0\n")
    shop.meltano("run", "extract_csv", MELTANO_ENVIRONMENT="extract", DATESTAMP=FIRST)
    table, = shop.manifest("csv", FIRST)["tables"]
    assert (table["rows"], table["quarantine"]["rows"]) == (2, 2)
    assert table["converted"] == {"total": {"derived": "round(quantity * unit_price, 2)"}}
    shop.land(FIRST, "postgres")
    result = shop.meltano("run", "load_to_postgres", check=False, MELTANO_ENVIRONMENT="load", EXTRACTED_AT=FIRST)
    said = " ".join(result.text.split())
    assert result.returncode
    assert "postgres, table public.orders, not.many: expected order_id < 99, found 2 of 100 rows" in said
    assert "csv, table order_details" not in said
