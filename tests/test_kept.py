"""A landed past date is kept, and nothing of its source is read for that."""

import contextlib
import json

import pytest
from conftest import BIN

DAY = "2024-01-20"


@pytest.fixture
def locked(shop):
    """Lock the source's tables: whatever reads one fails, and no timing hides it."""
    @contextlib.contextmanager
    def lock():
        shop.source.run(f"ALTER DATABASE {shop.source.name} SET lock_timeout = '100ms'")
        with contextlib.closing(shop.source.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE orders, notes IN ACCESS EXCLUSIVE MODE")
            yield

    return lock


@pytest.fixture
def kept(shop, locked):
    """Land the shop's date by a tap again, and require that it is kept unread."""
    shop.land(DAY)
    before = shop.landed()

    def run(tap, target=None):
        with locked():
            text = shop.pipe(tap, target or shop.target_csv(), DATESTAMP=DAY).text
        assert shop.landed() == before
        return text

    return run


def test_a_lock_tells_whether_a_table_is_read(shop, locked):
    with locked():
        assert shop.land(DAY, "postgres", check=False).returncode == 1


@pytest.mark.parametrize("settings", [{}, {"use_batch": False}, {"stream_maps": {"public-orders": {"freight": None}}},
                                      {"connections": 1}, {"compression": "gzip"}])
def test_a_kept_date_of_a_database_is_not_read(shop, kept, settings):
    assert f"postgres of {DAY} is landed and past: kept as it is" in kept(shop.tap_postgres(**settings))


@pytest.mark.parametrize("settings", [{}, {"use_batch": False}])
def test_a_kept_date_of_csv_files_is_not_read(shop, kept, settings):
    path = shop.csv("order_details.csv", "order_id,product_id\n1,2,too many\n")  # reading it would fail
    assert path.exists()
    assert f"csv of {DAY} is landed and past: kept as it is" in kept(shop.tap_csv(**settings))


def test_a_kept_date_of_csv_files_needs_neither_the_columns_nor_the_files_of_today(shop):
    tap = shop.tap_csv({"entity": "things", "path": "extract/things.csv", "keys": ["id"], "types": {"id": "integer"}})
    path = shop.csv("things.csv", "id\n1\n")
    selected = {"DATESTAMP": DAY, "MELTANO_EXTRACT__SELECT": '["things.id"]'}
    shop.pipe(tap, shop.target_csv(), **selected)
    before = shop.landed()
    for change in (lambda: path.write_text("nr\n1\n"), path.unlink):
        change()
        assert f"csv of {DAY} is landed and past: kept as it is" in shop.pipe(tap, shop.target_csv(), **selected).text
    assert shop.landed() == before


def test_a_kept_date_sends_nothing_to_a_target_of_another_vendor(shop, kept):
    out = shop.folder / "stock"
    out.mkdir()
    target = [str(BIN / "target-csv"), "--config", shop.config(output_path=str(out))]
    text = kept(shop.tap_postgres(use_batch=False), target)
    assert f"postgres of {DAY} is landed and past, so nothing is read" in text
    assert "REEXTRACT=true" in text
    assert not [*out.iterdir()]


def test_rows_of_a_tap_of_another_vendor_are_not_even_parsed_for_a_kept_date(shop):
    message = {"type": "SCHEMA", "stream": "t", "key_properties": [], "schema": {
        "type": "object", "properties": {"id": {"type": "integer"}}}}
    target = shop.target_csv(source="postgres", trust_end_of_input=True)
    lines = json.dumps(message) + "\n" + json.dumps({"type": "RECORD", "stream": "t", "record": {"id": 1}}) + "\n"
    shop.run(target, lines, DATESTAMP=DAY)
    before = shop.landed()
    again = shop.run(target, lines + "not a message\n", DATESTAMP=DAY)
    assert again.returncode == 0
    assert f"postgres of {DAY} is landed and past: kept as it is" in again.text
    assert shop.landed() == before
    shown = json.loads(shop.landing("show", DAY, "--json").stdout)["sources"][0]
    assert [one["outcome"] for one in shown["attempts"]] == ["committed", "kept"]


def test_a_date_that_only_the_target_was_given_is_refused_before_a_record_arrives(shop):
    messages = shop.pipe(shop.tap_postgres(use_batch=False), ["cat"]).stdout.splitlines()
    schema = next(line for line in messages if json.loads(line)["type"] == "SCHEMA")
    refused = shop.run(shop.target_csv(datestamp=DAY), schema + "\n")
    assert refused.returncode == 1
    assert f"but target-csv is set to land {DAY}" in refused.text
    assert f"DATESTAMP={DAY} meltano run extract_postgres" in refused.text
    assert not shop.landed()
