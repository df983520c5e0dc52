"""A table that is landed in increments is, on every date, the table that a full extract lands."""

import logging
from datetime import date, timedelta

import duckdb
import pytest
from conftest import ROOT
from landing.extract.postgres.row_versions import REACH, Position
from protected import keys
from psycopg2 import sql

FIRST = date(2024, 1, 1)
KEYS = {"public-items": "updated_at", "public-parts": "updated_at"}
MAKE = """
CREATE TABLE items (id bigint PRIMARY KEY, name text, price numeric(9,2), updated_at timestamptz);
INSERT INTO items SELECT g, 'item ' || g, g / 4.0, '2024-01-01 00:00Z'::timestamptz + g * '1 s'::interval
FROM generate_series(1, 2000) g;
CREATE TABLE parts (region text, id integer, note text, updated_at timestamp, PRIMARY KEY (region, id))
PARTITION BY LIST (region);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
INSERT INTO parts SELECT CASE WHEN g % 2 = 0 THEN 'a' ELSE 'b' END, g, 'part, "' || g || '"', '2024-01-01'
FROM generate_series(1, 300) g
"""


def day(number):
    return str(FIRST + timedelta(days=number))


@pytest.fixture
def dates(inside):
    inside.caplog.set_level(logging.INFO)
    inside.project.source.run("DROP TABLE orders, notes")
    inside.project.source.run(MAKE)
    (inside.project.folder / "meltano.yml").write_text("jobs:\n- name: extract_postgres\n")
    return Dates(inside)


class Dates:
    """Each date is landed in increments, and as a whole in a landing zone and a schema of its own."""

    def __init__(self, inside):
        self.inside, self.project, self.source = inside, inside.project, inside.project.source
        self.settings = {"full_every": 100}
        self.late = False  # whether a test has a transaction open

    def change(self, statement, *values):
        self.source.run(statement, *values)

    def land(self, number, check=True, **settings):
        while not self.late and not self.source.one("SELECT txid_snapshot_xmin(s) = txid_snapshot_xmax(s) "
                                                    "FROM txid_current_snapshot() s"):
            pass  # autovacuum: what it was older than would be read once more
        return self.inside.extract(day(number), by_keys=KEYS, check=check, **self.settings | settings)

    def land_whole(self, number):
        self.inside.extract(day(number), landing_root="whole", target={"landing_root": "whole"})

    def load(self, number, **settings):
        return self.inside.load(day(number), **settings)

    def load_whole(self, number):
        with self.inside.monkeypatch.context() as patch:
            patch.setenv("LANDING_ROOT", "whole")
            self.inside.load(day(number), default_target_schema="whole")

    def take(self, number):
        """Land and load a date both ways."""
        said = self.land(number).text
        self.land_whole(number)
        self.load(number)
        self.load_whole(number)
        return said

    def table(self, number, name="items"):
        return next(table for table in self.project.manifest("postgres", day(number))["tables"]
                    if table["name"] == name)

    def why_full(self, number, name="items"):
        return self.table(number, name).get("full_because")

    def rows(self, schema, number, table):
        relation = sql.Identifier(f"{schema}_history", table).as_string(self.project.warehouse.connection)
        return self.project.warehouse.run(f"SELECT t::text FROM {relation} t WHERE extracted_at = %s ORDER BY 1",
                                          day(number))

    def require_same(self, *numbers):
        for number in numbers:
            for table in ("items", "parts"):
                whole = self.rows("whole", number, table)
                assert self.rows("public", number, table) == whole, (number, table)
                assert self.table(number, table).get("increment", {}).get("total_rows", len(whole)) == len(whole)
        assert not self.project.unproved(*map(day, numbers))


def test_ten_dates_in_increments_are_ten_full_dates(dates):
    changes = [
        "SELECT 1",
        "UPDATE items SET price = price + 1, updated_at = '2024-02-01Z' WHERE id <= 20;"
        "INSERT INTO items VALUES (5001, 'new', 1, '2024-02-01Z'), (5002, NULL, NULL, '2024-02-01Z')",
        "UPDATE items SET name = 'forgot updated_at' WHERE id IN (7, 1999); UPDATE parts SET note = NULL WHERE id = 8",
        "INSERT INTO items VALUES (5003, 'no key', 3, NULL); UPDATE items SET updated_at = NULL WHERE id = 30",
        "INSERT INTO items VALUES (5004, 'a tie', 3, '2024-02-01Z'), (5005, 'late', 3, '2023-01-01Z')",
        "UPDATE items SET name = 'again' WHERE id = 5003; INSERT INTO parts VALUES ('a', 1000, '', '2024-02-02')",
        "SELECT 1",
        "DELETE FROM items WHERE id = 5005; INSERT INTO items VALUES (5005, 'back', 4, '2024-02-03Z')",
        "UPDATE items SET updated_at = '2024-02-04Z' WHERE id BETWEEN 100 AND 110",
        "UPDATE parts SET region = 'b' WHERE id = 8; INSERT INTO parts VALUES ('a', 8, 'x', '2024-02-05')",
    ]
    for number, change in enumerate(changes):
        dates.change(change)
        dates.take(number)
    dates.require_same(*range(10))
    assert dates.why_full(0) == "it is the first date"
    assert [dates.why_full(number) for number in range(1, 10)] == [None] * 9
    landed = [dates.table(number)["rows"] for number in range(10)]
    assert landed[0] == 2000
    assert all(rows <= 30 for rows in landed[1:]), landed
    assert dates.table(9)["increment"]["number"] == 9
    assert dates.project.manifest("postgres", day(9))["min_reader_version"] == 2
    assert dates.project.manifest("postgres", day(0))["min_reader_version"] == 1


def test_a_transaction_that_was_open_at_the_base_is_read_when_it_commits(dates):
    late = dates.source.connect()
    late.autocommit, dates.late = False, True
    with late.cursor() as cursor:
        cursor.execute("UPDATE items SET name = 'late', updated_at = '2020-01-01Z' WHERE id = 3;"
                       "INSERT INTO items VALUES (9001, 'late too', 1, '2020-01-01Z')")
        dates.take(0)
        dates.change("UPDATE items SET name = 'meanwhile', updated_at = '2024-03-01Z' WHERE id = 4")
        dates.take(1)
        late.commit()
    late.close()
    dates.late = False
    dates.take(2)
    dates.require_same(0, 1, 2)
    assert dates.table(2)["rows"] < 10
    assert dates.why_full(2) is None


@pytest.mark.parametrize(("change", "why"), [
    ("DELETE FROM items WHERE id IN (5, 6, 7)", "3 rows were deleted at the source, or have another key, since"),
    ("UPDATE items SET id = 7001, updated_at = '2024-02-01Z' WHERE id = 5", "1 rows were deleted at the source, or"),
    ("UPDATE items SET updated_at = '2023-01-01Z' WHERE updated_at > '2024-01-01 00:30Z'",
     "its largest updated_at is 2024-01-01 00:30:00+00 now, and was 2024-01-01 00:33:20+00 on"),
    ("ALTER TABLE items ADD COLUMN colour text DEFAULT 'red'", "its columns changed since"),
    ("ALTER TABLE items DROP COLUMN price", "its columns changed since"),
    ("ALTER TABLE items ALTER price TYPE numeric(12,2)", "its columns changed since"),
    ("ALTER TABLE items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (id, name)", "its primary key changed since"),
    ("CREATE TABLE other (LIKE items INCLUDING ALL); INSERT INTO other SELECT * FROM items; DROP TABLE items;"
     "ALTER TABLE other RENAME TO items", "it was made anew since"),
    ("TRUNCATE items", "its largest updated_at is NULL now"),
], ids=["delete", "key", "goes back", "add column", "drop column", "type", "primary key", "anew", "truncate"])
def test_what_an_increment_cannot_tell_lands_the_whole_table_and_says_why(dates, change, why):
    dates.take(0)
    dates.change(change)
    said = dates.take(1)
    assert dates.why_full(1).startswith(why)
    assert f"public.items: the whole table, because {dates.why_full(1)}" in said
    assert dates.why_full(1, "parts") is None
    dates.change("INSERT INTO items (id, name, updated_at) VALUES (8001, 'next', '2024-05-01Z')")
    dates.take(2)
    assert dates.why_full(2) is None, "the whole table is a base"
    assert dates.table(2)["rows"] <= 3
    dates.require_same(0, 1, 2)


def test_a_key_that_was_rotated_is_the_reason_and_not_a_change_of_columns(dates):
    dates.settings["protect"] = {"public.items": {"name": "encrypt"}}
    for number, ids in enumerate([["old"], ["new", "old"], ["new", "old"]]):
        dates.inside.monkeypatch.setenv("PROTECTION_KEYS", keys(*ids))
        dates.land(number)
    assert dates.why_full(1).startswith("its protection, or a key of it, changed since")
    assert dates.why_full(2) is None


def test_a_partition_that_is_attached_with_rows_older_than_the_base_is_read(dates):
    dates.change("CREATE TABLE parts_c (LIKE parts); INSERT INTO parts_c SELECT 'c', g, 'older', '2020-01-01' "
                 "FROM generate_series(1, 40) g")
    dates.take(0)
    dates.change("ALTER TABLE parts ATTACH PARTITION parts_c FOR VALUES IN ('c')")
    dates.take(1)
    assert (dates.table(1, "parts")["rows"] >= 40, dates.why_full(1, "parts")) == (True, None)
    dates.require_same(0, 1)


def test_every_so_many_dates_the_whole_table_is_landed(dates):
    dates.settings = {"full_every": 3, "incremental": {"public": {"parts": {"full_every": 2}}}}
    for number in range(7):
        dates.land(number)
    assert ["increment" in dates.table(number) for number in range(7)] == [False, True, True] * 2 + [False]
    assert ["increment" in dates.table(number, "parts") for number in range(7)] == [False, True] * 3 + [False]
    assert dates.why_full(3) == "3 dates stand on each other (full_every: 3)"


def test_a_label_of_an_enum_that_is_renamed_is_read(dates):
    dates.change("CREATE TYPE mood AS ENUM ('sad', 'glad'); ALTER TABLE items ADD mood mood;"
                 "UPDATE items SET mood = 'sad' WHERE id < 9")
    dates.take(0)
    dates.change("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    dates.take(1)
    assert dates.why_full(1) == f"its definition changed since {day(0)}"
    dates.require_same(0, 1)


STEPS = ["SELECT 1", "UPDATE items SET name = 'b', updated_at = '2024-02-01Z' WHERE id <= 5",
         "UPDATE items SET name = 'c', updated_at = '2024-02-02Z' WHERE id BETWEEN 4 AND 8;"
         "INSERT INTO parts VALUES ('b', 2001, 'new', '2024-02-02')"]


@pytest.fixture
def three(dates):
    """Three dates that stand on each other, landed both ways; the whole ones are loaded."""
    for number, change in enumerate(STEPS):
        dates.change(change)
        dates.land(number)
        dates.land_whole(number)
        dates.load_whole(number)
    return dates


def test_a_date_loads_from_its_files_when_its_base_is_not_loaded_and_from_its_base_when_it_is(three):
    three.load(2)
    three.require_same(2)
    three.load(0)  # an older date
    three.load(1)
    three.require_same(0, 1, 2)
    three.project.warehouse.run("UPDATE public_history.items SET name = 'wrong' WHERE extracted_at = %s AND id = 900",
                                day(1))
    assert [one.table for one in three.project.unproved(day(1))] == ["items"]
    three.load(2, reload=True)  # reads no base that may be wrong
    three.require_same(2)
    assert "already loaded" in three.load(2).text


def test_a_date_is_taken_again_from_the_same_base(three):
    three.load(1)
    three.change("UPDATE items SET name = 'd', updated_at = '2024-02-03Z' WHERE id = 9; DELETE FROM parts WHERE id = 5")
    three.land(2)
    three.land_whole(2)
    three.load(2)
    three.load_whole(2)
    three.require_same(1, 2)
    assert three.table(2)["increment"]["base"] == day(1)
    assert three.why_full(2, "parts").startswith("1 rows were deleted at the source")


def test_a_base_that_was_taken_again_or_is_gone_names_the_dates_that_stand_on_it(three):
    said = three.land(0).text
    assert f"{day(1)}, {day(2)} of postgres hold only what changed since the run of {day(0)}" in said
    refused = three.load(2, check=False)
    assert refused.returncode == 1
    assert f"postgres of {day(2)} stands on {day(0)}" in refused.text
    assert "was taken again" in refused.text
    plan = three.inside.landing("plan", "--from", day(0), "--to", day(2)).stdout
    states = [line.split()[1] for line in plan.splitlines() if line.startswith("2024")]
    assert states == ["landed", "damaged", "damaged"]
    assert three.inside.landing("status", "--days", "3", check=False).stdout.count("stands on") == 2
    assert "stands on" in three.inside.landing("list", check=False).stdout
    three.land(1)
    assert three.why_full(1) == f"{day(2)} is landed, and {day(1)} is before that"
    three.land(2)
    three.land_whole(1)
    three.load(2)
    three.require_same(2)
    (three.project.manifest_path("postgres", day(1))).unlink()
    assert "is not landed any more" in three.load(2, check=False, reload=True).text


@pytest.mark.parametrize("damage", [b"item 1OOO,", b'"tem 1000,', b"item 1000\n"],
                         ids=["another value", "a quote that is never closed", "a line that is cut"])
def test_a_base_whose_files_are_damaged_is_no_base(three, damage):
    partition = three.project.manifest_path("postgres", day(0)).parent
    path = partition / three.table(0)["files"][0]["path"]
    path.write_bytes(path.read_bytes().replace(b"item 1000,", damage))
    three.change("UPDATE items SET name = 'e', updated_at = '2024-02-04Z' WHERE id = 9")
    three.land(3)
    assert three.why_full(3).startswith("its base cannot be used")
    assert "expected SHA-256" in three.why_full(3)
    path.unlink()
    three.land(4)
    assert three.why_full(4) is None, "a whole table is a base"
    three.land(2)
    assert three.why_full(2).endswith("is before that")


def test_gc_keeps_and_drop_refuses_what_other_dates_stand_on(three):
    kept = three.inside.landing("gc", "--keep-days", "0", "--older-than", "0", "--yes").stdout
    assert "landed date" not in kept
    assert "attempt log" not in kept
    refused = three.inside.landing("drop", day(0), "--yes", check=False)
    assert f"{day(1)}, {day(2)} of postgres hold only what changed since {day(0)}" in refused.text
    three.inside.landing("drop", day(2), "--yes")
    three.inside.landing("drop", day(1), "--yes")
    three.inside.landing("drop", day(0), "--yes")
    assert not three.project.landed()


def test_a_copy_takes_a_chain_in_order_and_an_export_has_all_rows(three):
    refused = three.inside.landing("copy", day(2), "--to", "elsewhere", check=False)
    assert f"landing copy {day(1)}" in refused.text
    three.inside.landing("copy", "--all", "--to", "elsewhere")
    three.inside.monkeypatch.setenv("LANDING_ROOT", "elsewhere")
    three.load(2)
    three.require_same(2)
    three.inside.landing("export", day(2), "--to", "parquet")
    files = three.project.folder.glob(f"parquet/source=postgres/extracted_at={day(2)}/table=public-items/*.parquet")
    found = duckdb.sql(f"SELECT id, name FROM '{next(files)}' ORDER BY id").fetchall()
    assert found == three.source.run("SELECT id, name FROM items ORDER BY id")


@pytest.mark.parametrize("settings", [{"use_batch": False}, {"compression": "zstd"}, {"connections": 1}], ids=str)
def test_an_increment_is_the_same_by_records_compressed_and_over_one_connection(dates, settings):
    target = {"compression": settings["compression"]} if "compression" in settings else {}
    for number, change in enumerate(STEPS):
        dates.change(change)
        dates.land(number, target=target, **settings)
        dates.land_whole(number)
        dates.load_whole(number)
    assert [dates.why_full(number) for number in (1, 2)] == [None, None]
    for number in (0, 2, 1):
        dates.load(number, batches=settings.get("use_batch", True))
    dates.require_same(0, 1, 2)
    assert dates.table(2)["rows"] == 5
    assert dates.inside.landing("plan", "--from", day(0), "--to", day(2)).stdout.count("identical") == 3


def test_a_table_without_a_key_or_a_view_without_lookback_is_refused_with_a_sentence(dates):
    dates.change("CREATE TABLE loose (a integer, updated_at date);"
                 "CREATE VIEW v AS SELECT id, name, updated_at FROM items")
    for stream, key, said in (("public-loose", "updated_at", "public.loose has replication-method INCREMENTAL, but it "
                               "has no primary key"),
                              ("public-v", "updated_at", "Declare how far back to read"),
                              ("public-items", "nothing", "its replication key 'nothing' is none of its columns")):
        refused = dates.inside.extract(day(0), by_keys={stream: key}, check=False, keys={"public": {"v": ["id"]}})
        assert refused.returncode == 1
        assert said in refused.text
    assert not dates.project.landed()
    keys = {"public-v": "updated_at"}
    settings = {"keys": {"public.v": ["id"]}, "incremental": {"public.v": {"lookback": "15m"}}}
    dates.inside.extract(day(0), by_keys=keys, **settings)
    dates.change("UPDATE items SET name = 'in the last quarter of an hour' WHERE id = 1999")
    dates.inside.extract(day(1), by_keys=keys, **settings)
    view = dates.table(1, "v")
    assert (view["rows"], view["increment"]["total_rows"]) == (901, 2000)
    dates.load(1)
    assert not dates.project.unproved(day(1))


def test_a_meltano_run_lands_what_changed(dates):
    path = dates.project.folder / "meltano.yml"
    path.write_text((ROOT / "meltano.yml").read_text().replace(
        "      filter_schemas: [public]\n", "      filter_schemas: [public]\n    metadata:\n      public-items:\n"
        "        replication-method: INCREMENTAL\n        replication-key: updated_at\n"))
    for number, change in enumerate(STEPS[:2]):
        dates.change(change)
        dates.project.meltano("run", "extract_postgres", MELTANO_ENVIRONMENT="extract", DATESTAMP=day(number))
    assert dates.table(1)["increment"]["base"] == day(0)
    assert dates.table(1)["rows"] <= 6


@pytest.mark.parametrize(("change", "why"), [
    ({"cluster": "7000000000000000000/1/5"}, "the database is in another cluster than then, or on another timeline"),
    ({"xmin": 1 << 40}, "the server is behind what it was then"),
    ({"lsn": "FF/0"}, "the server is behind what it was then"),
    ({"xmin": "x"}, "its manifest does not say where its snapshot was")], ids=str)
def test_a_base_of_another_cluster_or_of_the_future_is_no_base(dates, change, why):
    dates.land(0)
    manifest = dates.project.manifest("postgres", day(0))
    manifest["snapshot"] |= change
    dates.project.write_manifest("postgres", day(0), manifest)
    dates.land(1)
    assert dates.why_full(1) == f"{why} ({day(0)})"
    dates.land(2)
    assert dates.why_full(2) is None


def test_transactions_are_told_apart_as_far_as_their_numbers_reach():
    now = Position(6 << 31, "c", "0/10")
    assert now.unreachable({"cluster": "c", "xmin": now.xmin - REACH, "lsn": "0/10"}) is None
    assert now.unreachable({"cluster": "c", "xmin": now.xmin - REACH - 1, "lsn": "0/10"}).startswith("too many")
    assert Position(1, None, "0/1").unreachable({"cluster": None, "xmin": 1, "lsn": "0/1"}).startswith("the role may")
