"""A source's date is there with all of its tables, from one moment, or it is not there."""

import json
import threading
import time
from datetime import UTC, date, datetime, timedelta

import pytest
from landing.core.dates import today
from landing.extract.postgres import discovery

DAY = "2024-01-20"


def names(project, day=DAY):
    return [table["stream"] for table in project.manifest("postgres", day)["tables"]]


def test_a_date_is_its_manifest_and_the_files_that_it_lists(shop):
    shop.source.run("CREATE TABLE empty (id integer PRIMARY KEY, v text)")
    shop.land(DAY, "postgres")
    manifest = shop.manifest("postgres", DAY)
    listed = {f"source=postgres/extracted_at={DAY}/{file['path']}"
              for table in manifest["tables"] for file in table["files"]}
    assert set(shop.landed()) == {*listed, f"source=postgres/extracted_at={DAY}/_manifest.json"}
    assert [(t["name"], t["rows"]) for t in manifest["tables"]] == [("empty", 0), ("notes", 40), ("orders", 100)]
    assert manifest["snapshot"]["database"] == shop.source.name
    assert not [path for path in (shop.output / "_staging").glob("*") if path.is_dir()]
    empty = manifest["tables"][0]
    assert (shop.manifest_path("postgres", DAY).parent / empty["files"][0]["path"]).read_bytes() == b"id,v\n"


def test_a_past_date_stays_as_it_was_unless_told_otherwise(shop):
    shop.land(DAY, "postgres")
    before = shop.landed()
    shop.source.run("DELETE FROM orders")
    kept = shop.land(DAY, "postgres")
    assert "kept as it is" in kept.text
    assert shop.landed() == before
    shop.land(DAY, "postgres", REEXTRACT="true")
    assert {t["name"]: t["rows"] for t in shop.manifest("postgres", DAY)["tables"]} == {"orders": 0, "notes": 40}
    assert len(shop.landed()) == len(before), "files of the earlier run are gone"


def test_todays_date_is_taken_anew_and_the_same_rows_give_the_same_bytes(shop):
    today = datetime.now(UTC).date().isoformat()
    shop.land(today)
    first = shop.landed()
    shop.land(today)
    second = shop.landed()
    data = [sorted(content for path, content in landed.items() if path.endswith(".csv")) for landed in (first, second)]
    assert data[0] == data[1]
    assert set(first) != set(second), "a run of its own, with files of its own names"


def test_all_tables_of_a_date_are_from_one_moment(shop):
    # A writer moves rows from one table to the other, all the time; in any snapshot there are 1,000 in all.
    shop.source.run("CREATE TABLE a (id integer); CREATE TABLE zz (id integer); "
                    "INSERT INTO a SELECT generate_series(1, 1000)")
    stop = threading.Event()

    def move():
        connection = shop.source.connect()
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("WITH gone AS (DELETE FROM a WHERE id IN (SELECT id FROM a LIMIT 1) RETURNING id) "
                               "INSERT INTO zz SELECT id FROM gone")
        connection.close()

    writer = threading.Thread(target=move)
    writer.start()
    try:
        shop.land(DAY, "postgres")
    finally:
        stop.set()
        writer.join()
    rows = {table["name"]: table["rows"] for table in shop.manifest("postgres", DAY)["tables"]}
    assert rows["zz"] > 0, "the writer was at work"
    assert rows["a"] + rows["zz"] == 1000


def test_truncate_waits_for_the_snapshot_instead_of_emptying_it(shop):
    # To a snapshot that is older than the TRUNCATE the table would be empty, without an error.
    shop.source.run("CREATE TABLE aa (id integer); INSERT INTO aa SELECT generate_series(1, 100000)")
    lock = shop.source.connect()
    lock.autocommit = False
    with lock.cursor() as cursor:
        cursor.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")  # the tap has to wait for all of its tables
        landing = threading.Thread(target=shop.land, args=(DAY, "postgres"))
        landing.start()
        waiting = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE NOT granted " \
                  "AND d.datname = current_database()"
        while not shop.source.one(waiting):
            pass
        cursor.execute("TRUNCATE orders")
    lock.commit()
    landing.join()
    lock.close()
    assert {t["name"]: t["rows"] for t in shop.manifest("postgres", DAY)["tables"]} == {
        "aa": 100000, "notes": 40, "orders": 0}


def test_new_tables_and_columns_are_there_without_any_step_by_hand(shop):
    shop.meltano("run", "extract_postgres", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY)
    shop.source.run("ALTER TABLE orders ADD COLUMN colour text; CREATE TABLE fresh (id integer)")
    shop.meltano("run", "extract_postgres", MELTANO_ENVIRONMENT="extract", DATESTAMP="2024-01-21")
    assert names(shop) == ["public-notes", "public-orders"]
    assert names(shop, "2024-01-21") == ["public-fresh", "public-notes", "public-orders"]
    orders = shop.manifest("postgres", "2024-01-21")["tables"][2]
    assert [column["name"] for column in orders["columns"]] == ["order_id", "customer", "freight", "colour"]


def test_what_is_deselected_is_not_landed(shop):
    shop.meltano("run", "extract_postgres", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY,
                 TAP_POSTGRES__SELECT='["*.*", "!public-notes.*", "!public-orders.customer"]')
    assert names(shop) == ["public-orders"]
    assert [column["name"] for column in shop.manifest("postgres", DAY)["tables"][0]["columns"]] == [
        "order_id", "freight"]


def test_custom_where_clauses_and_limits_of_the_stock_tap_hold(shop):
    tap = shop.tap_postgres(stream_options={"public-orders": {"custom_where_clauses": ["order_id > 90"]}},
                            max_record_count=25)
    shop.pipe(tap, shop.target_csv(), DATESTAMP=DAY)
    assert {t["name"]: t["rows"] for t in shop.manifest("postgres", DAY)["tables"]} == {"orders": 10, "notes": 25}


def test_rows_hidden_by_a_policy_stop_the_landing_instead_of_being_left_out(shop):
    shop.source.run("CREATE ROLE limited LOGIN PASSWORD 'limited';"
                    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO limited;"
                    "ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON orders USING (order_id < 5)")
    try:
        result = shop.pipe(shop.tap_postgres(user="limited", password="limited"), shop.target_csv(),  # noqa: S106
                           check=False, DATESTAMP=DAY)
        assert result.returncode != 0
        assert 'row-level security policy for table "orders"' in result.text
        assert not shop.landed()
    finally:
        shop.source.run("DROP OWNED BY limited; DROP ROLE limited")


@pytest.mark.parametrize("text", ["2024-02-30", "20240120", "", "x; touch pwned", "2024-1-2", "２０２４-01-20", "../x",
                                  "2024-01-20\n"])
def test_what_is_not_a_date_is_refused_before_anything_starts(shop, text):
    for command, variable in (("extract_postgres", "DATESTAMP"), ("extract_csv", "DATESTAMP"),
                              ("load_to_postgres", "EXTRACTED_AT")):
        if text not in ("2024-02-30", "x; touch pwned", "") and command != "extract_postgres":
            continue
        environment = "load" if variable == "EXTRACTED_AT" else "extract"
        result = shop.meltano("run", command, check=False, MELTANO_ENVIRONMENT=environment, **{variable: text})
        assert result.returncode != 0
        assert f"{variable}={text!r} is not a date" in result.text.replace("\\\\n", "\\n")
    assert not shop.output.exists() or not shop.landed()
    assert not (shop.folder / "pwned").exists()
    assert not shop.warehouse.run("SELECT 1 FROM pg_tables WHERE schemaname LIKE '%history'")


def test_unset_variables_mean_today_and_the_jobs_own_source(shop):
    before = today()
    shop.meltano("run", "extract_postgres", "extract_csv", MELTANO_ENVIRONMENT="extract")
    shop.meltano("run", "load_to_postgres", MELTANO_ENVIRONMENT="load")
    days = {before, before + timedelta(days=1)} & {today(), before}
    assert {path.parent.name for path in shop.output.glob("source=*/*/_manifest.json")} <= {
        f"extracted_at={day}" for day in days}
    assert {path.name for path in shop.output.glob("source=*")} == {"source=postgres", "source=csv"}
    assert shop.warehouse.one("SELECT count(*) FROM public.orders") == 100


@pytest.mark.parametrize("source", ["", "../x", "a/b", "a b"])
def test_what_is_not_a_name_for_a_source_is_refused(shop, source):
    result = shop.land(DAY, "postgres", check=False, SOURCE=source)
    assert result.returncode != 0
    assert f"SOURCE={source!r} is not a valid source name" in result.text
    assert not shop.landed()


def test_a_source_without_any_table_is_not_a_date(project):
    result = project.land(DAY, "postgres", check=False)
    assert result.returncode != 0
    assert "sent no table" in result.text
    assert not project.landed()


def test_two_names_that_would_be_one_stream_are_refused(project):
    project.source.run('CREATE SCHEMA "a-b"; CREATE TABLE "a-b".c (i int);'
                       'CREATE SCHEMA a; CREATE TABLE a."b-c" (i int)')
    result = project.pipe(project.tap_postgres(filter_schemas=[]), project.target_csv(), check=False, DATESTAMP=DAY)
    assert result.returncode != 0
    assert "same stream name a-b-c" in result.text


def test_dates_are_utc_whatever_the_machine_says(monkeypatch):
    now = datetime.now(UTC)
    # POSIX signs: one is 14 hours ahead and the other 12 behind, so that one of them has another date at any hour.
    monkeypatch.setenv("TZ", "XXX-14" if now.hour >= 10 else "XXX+12")
    time.tzset()
    try:
        assert date.today() != now.date(), "the machine's own date is another one"
        assert today() == now.date()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_one_declared_source_cannot_be_landed_in_the_place_of_another(shop):
    today = datetime.now(UTC).date().isoformat()
    shop.land(today)
    before = shop.landed()
    result = shop.land(today, "csv", check=False, SOURCE="postgres")
    assert result.returncode != 0
    assert "SOURCE=postgres, but this job lands source csv" in result.text
    assert shop.landed() == before


def test_a_server_that_lets_nobody_in_is_named_without_its_password(shop):
    for settings, variable in (({"port": 1}, "PORT"), ({"password": "not the right one"}, "PASSWORD")):
        result = shop.pipe(shop.tap_postgres(**settings), shop.target_csv(), check=False, DATESTAMP=DAY)
        assert result.returncode != 0
        assert f"SOURCE_POSTGRES_{variable}" in result.text
        assert "Traceback" not in result.text
        assert "not the right one" not in result.text


def test_discovery_by_itself_gives_the_taps_own_catalog(shop):
    # A setting that only the tap knows sends discovery through the tap.
    shop.source.run("CREATE VIEW seen AS SELECT 1 AS one; COMMENT ON COLUMN orders.freight IS 'in euros'")
    both = [json.loads(shop.pipe([*shop.tap_postgres(**settings), "--discover"], ["cat"]).stdout)
            for settings in ({}, {"max_record_count": 10**9})]
    assert len(both[0]["streams"]) == 3
    assert both[0] == both[1]
    for state in ([], ["--state", "state.json"]):  # as Meltano starts it first, and after a run
        assert discovery.plain_config([*shop.tap_postgres()[1:], *state, "--discover"])
    for other in ({"max_record_count": 1}, {"ssl_mode": "verify-full"}, {"ssh_tunnel": {"enable": True}}):
        assert discovery.plain_config([*shop.tap_postgres(**other)[1:], "--discover"]) is None
