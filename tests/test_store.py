"""A landing zone in an object store: the commands of a day, on each kind of store, with nothing on the local disk."""

import json

import pytest
from landing.extract.postgres.sizes import chunk_conditions
from landing.storage import transfer
from landing.storage.urls import storage

D1, D2 = "2024-01-20", "2024-01-21"


@pytest.fixture
def shop(project):
    project.source.run("CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders VALUES (1, 'a'), "
                       "(2, ''), (3, NULL); CREATE TABLE nothing (id int)")
    return project


@pytest.mark.parametrize("store", ["fakes3", "fakegcs", "moto", "azurite"], indirect=True)
def test_a_date_is_landed_loaded_verified_replaced_and_dropped_in_a_store(shop, store):
    root = store.url(f"zone-{shop.source.name}")
    there = {**store.environment(), "LANDING_ROOT": root}
    shop.land(D1, **there)
    assert not [path for path in shop.output.rglob("*") if path.is_file()]
    listed = json.loads(shop.landing("list", "--json", **there).stdout)
    assert [(one["source"], one["tables"], one["rows"]) for one in listed] == [("csv", 1, 2), ("postgres", 2, 3)]
    assert "kept as it is" in shop.land(D1, "postgres", **there).text
    shop.load(D1, **there)
    assert "3 of 3 tables equal" in shop.landing("verify", D1, **there).stdout
    before = store.keys()
    shop.source.run("DELETE FROM orders WHERE id = 3")
    shop.land(D1, "postgres", REEXTRACT="true", **there)
    data = {*filter(lambda key: "/table=" in key and shop.source.name in key, store.keys())}
    assert len(data) == 3
    assert len(data - {*before}) == 2
    shop.load(D1, **there)
    assert shop.rows("orders") == [('(1,a)',), ('(2,"")',)]
    assert "3 of 3 tables equal" in shop.landing("verify", D1, **there).stdout
    shown = shop.landing("show", D1, **there).stdout
    assert shown.count("committed") == 3
    assert "kept" in shown
    assert "Nothing to remove" in shop.landing("gc", "--older-than", "0", **there).stdout
    shop.landing("rename", "csv", "files", "--yes", **there)
    shop.landing("drop", D1, "--yes", **there)
    left = [*filter(lambda key: shop.source.name in key, store.keys())]
    assert {key.split("/")[1] for key in left} == {"_attempts"}


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_a_file_that_no_store_takes_is_refused_while_it_is_written(store, monkeypatch):
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(transfer, "LARGEST", 10)
    place = storage(store.url("large"))
    file = place.create("table/file.csv")
    file.write(b"0123456789")
    with pytest.raises(OSError, match=r"at most .* GB. Set `connections: 2`"):
        file.write(b"x")
    file.close()
    assert not place.exists("table/file.csv")


def test_a_large_table_is_read_in_more_chunks_than_connections():
    assert [len(chunk_conditions(pages, 2)) for pages in (100, 1 << 20, 5 << 20)] == [1, 2, 3]
