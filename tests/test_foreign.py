"""With a plugin of somebody else at the other end, the rows arrive."""

import csv
import hashlib
import json

from conftest import BIN

DAY, NEXT = "2024-01-20", "2024-01-21"


def catalog(project, tap):
    """The stock tap's catalog with everything selected, as Meltano would."""
    found = json.loads(project.pipe([*tap, "--discover"], ["cat"]).stdout)
    for stream in found["streams"]:
        next(m for m in stream["metadata"] if not m["breadcrumb"])["metadata"]["selected"] = True
    path = project.folder / "catalog.json"
    path.write_text(json.dumps(found))
    return str(path)


def test_our_tap_postgres_into_the_stock_target_csv(shop):
    out = shop.folder / "stock"
    target = [str(BIN / "target-csv"), "--config", shop.config(output_path=str(out))]
    shop.pipe(shop.tap_postgres(use_batch=False), target, DATESTAMP=DAY)
    rows = list(csv.DictReader((out / "public-orders.csv").open()))
    assert len(rows) == 100
    assert rows[0] == {"order_id": "1", "customer": "c1", "freight": "0.25"}


def test_our_tap_csv_in_load_into_the_stock_target_postgres(shop):
    shop.land(DAY)
    settings = {**shop.warehouse.settings(), "ssl_enable": False, "default_target_schema": "stock"}
    target = [str(BIN / "target-postgres"), "--config", shop.config(**settings)]
    shop.pipe(shop.tap_landed(use_batch=False), target, EXTRACTED_AT=DAY)
    found = shop.warehouse.run("SELECT count(*), min(order_id), min(extracted_at)::text, min(source) FROM stock.orders")
    assert found == [(100, 1, DAY, "postgres")]
    assert shop.warehouse.one("SELECT count(*) FROM stock.notes") == 40


def test_a_stock_tap_into_our_target_csv_commits_only_if_told_to_trust_the_end_of_input(shop):
    shop.source.run("ALTER TABLE notes ADD COLUMN at timestamptz DEFAULT now(),"
                    "ADD COLUMN doc jsonb DEFAULT '{\"a\": 1}'")
    settings = {**shop.source.settings(), "ssl_enable": False, "filter_schemas": ["public"]}
    tap = [str(BIN / "tap-postgres"), "--config", shop.config(**settings)]
    tap = [*tap, "--catalog", catalog(shop, tap)]
    refused = shop.pipe(tap, shop.target_csv(source="stock"), check=False, DATESTAMP=DAY)
    assert refused.returncode != 0
    assert "without the tap's completion message" in refused.text
    assert not shop.landed()
    shop.pipe(tap, shop.target_csv(source="stock", trust_end_of_input=True), DATESTAMP=DAY)
    tables = {table["name"]: table for table in shop.manifest("stock", DAY)["tables"]}
    assert tables["public-orders"]["rows"] == 100
    assert [column["type"] for column in tables["public-orders"]["columns"]] == ["bigint", "text", "numeric"]
    shop.pipe(shop.tap_landed(sources=["stock"]), shop.target_postgres(), EXTRACTED_AT=DAY)
    jobs = "jobs:\n- name: extract_stock\n  tasks: [tap-stock target-csv]\n"
    (shop.folder / "meltano.yml").write_text(jobs)
    assert "2 of 2 tables equal" in shop.landing("verify", DAY).stdout
    assert shop.warehouse.one('SELECT sum(order_id) FROM public."public-orders"') == 5050


def test_stream_maps_change_and_filter_what_is_landed_and_the_proof_counts_what_was_sent(shop):
    maps = {"public-orders": {"__filter__": "order_id <= 10", "customer": "'hidden'", "__else__": None,
                              "order_id": "int(order_id)"},
            "public-notes": "__NULL__"}
    shop.pipe(shop.tap_postgres(stream_maps=maps), shop.target_csv(), DATESTAMP=DAY)
    table, = shop.manifest("postgres", DAY)["tables"]
    assert (table["stream"], table["rows"]) == ("public-orders", 10)
    content = (shop.manifest_path("postgres", DAY).parent / table["files"][0]["path"]).read_text()
    assert set(content.splitlines()[1:]) == {f"hidden,{n}" for n in range(1, 11)}


def test_a_stream_map_of_one_table_changes_that_table_only(shop):
    shop.source.run("ALTER TABLE orders ADD COLUMN price numeric(9,2) DEFAULT 1.50, ADD COLUMN at timestamp(0) "
                    "DEFAULT '2024-01-01 10:00:00', ADD COLUMN secret integer DEFAULT 7")

    def load(day):
        shop.pipe(shop.tap_landed(sources=["postgres"]), shop.target_postgres(), EXTRACTED_AT=day)

    shop.land(DAY, "postgres")
    load(DAY)
    plain = shop.manifest("postgres", DAY)
    maps = {"public-orders": {"customer": "md5(customer)", "secret": None, "twice": "int(order_id) * 2"}}
    shop.pipe(shop.tap_postgres(stream_maps=maps), shop.target_csv(), DATESTAMP=NEXT, ALLOW_FEWER_TABLES="true")
    notes, orders = sorted(shop.manifest("postgres", NEXT)["tables"], key=lambda table: table["stream"])
    assert notes["files"][0]["sha256"] == plain["tables"][0]["files"][0]["sha256"]  # it went as a file
    assert (orders["schema"], orders["name"], orders["primary_key"]) == ("public", "orders", ["order_id"])
    assert {column["name"]: column["type"] for column in orders["columns"]} == {
        "order_id": "smallint", "customer": "text", "freight": "real", "price": "numeric(9,2)",
        "at": "timestamp(0) without time zone", "twice": "bigint"}
    load(NEXT)
    assert shop.warehouse.one("SELECT count(*) FROM public.notes") == 40
    assert shop.warehouse.run("SELECT customer, price::text, twice FROM public.orders WHERE order_id = 1") == [
        (hashlib.md5(b"c1").hexdigest(), "1.50", 2)]  # noqa: S324
    assert not shop.unproved(DAY, NEXT)


def test_a_mapped_value_that_its_column_cannot_hold_is_refused(shop):
    maps = {"public-orders": {"order_id": "md5(customer)"}}
    refused = shop.pipe(shop.tap_postgres(stream_maps=maps), shop.target_csv(), check=False, DATESTAMP=DAY)
    assert refused.returncode == 1
    assert "order_id in a record of public-orders is not a whole number" in refused.text
    assert not shop.landed()


def test_an_aliased_stream_is_a_table_of_its_own(shop):
    maps = {"all_notes": {"__source__": "public-notes", "note": "note.upper()"}, "public-orders": "__NULL__"}
    shop.pipe(shop.tap_postgres(stream_maps=maps), shop.target_csv(), DATESTAMP=DAY)
    tables = {table["stream"]: table for table in shop.manifest("postgres", DAY)["tables"]}
    assert {stream: (table["name"], table["rows"]) for stream, table in tables.items()} == {
        "public-notes": ("notes", 40), "all_notes": ("all_notes", 40)}
