"""What rows go through on their way holds together: increments, protection, contracts, checks, and a store."""

import pytest
from landed import InStore
from protected import PLAIN, keys

D1, D2, D3 = "2024-01-20", "2024-01-21", "2024-01-22"
PROTECT = {"public.people": {"id": "token", "name": "encrypt"}}
CHECKS = {"postgres": {"people": {"max_change": "30%", "columns": {"id": {"unique": True}}, "min_rows": 5}}}


@pytest.fixture
def people(inside):
    """A source of ten people, in a landing zone whose root a test may move to a store."""
    (inside.project.folder / "meltano.yml").write_text("jobs:\n- name: extract_postgres\n- name: extract_csv\n")
    inside.project.source.run(
        "DROP TABLE orders, notes;"
        "CREATE TABLE people (id integer PRIMARY KEY, name text, seen timestamptz);"
        f"INSERT INTO people SELECT g, '{PLAIN}' || g, '2024-01-01Z' FROM generate_series(1, 10) g")
    inside.monkeypatch.setenv("PROTECTION_KEYS", keys("token", "old"))
    return inside


def revealed(inside, day, table):
    """Lines of a landed date in plain, without the header."""
    return sorted(inside.landing("reveal", day, table).stdout.splitlines()[1:])


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
@pytest.mark.parametrize("rooted", ["folder", "store"])
def test_an_increment_of_a_protected_table_is_checked_as_the_whole_table(people, store, rooted):
    project = people.project
    if rooted == "store":
        project.land_in(InStore(store, store.url().rpartition("/")[2]))
        for name, value in store.variables(project.zone.root).items():
            people.monkeypatch.setenv(name, value)
    people.project.csv("order_details.csv", "order_id,product_id\n1,1\n")

    def take(day, check=True):
        people.extract(day, by_keys={"public-people": "seen"}, protect=PROTECT, compression="zstd")
        people.extract(day, "csv")
        return people.load(day, check=check, checks=CHECKS)

    take(D1)
    project.source.run(f"UPDATE people SET name = '{PLAIN} anew' WHERE id = 3;"
                       "INSERT INTO people VALUES (11, NULL, NULL)")
    take(D2)
    assert project.warehouse.one("SELECT count(DISTINCT id) FROM people") == 11
    assert b"".join(project.landed().values()).count(b"full_because") == 1, "the second date is an increment"
    assert people.proved(D2)
    tokens = dict(project.warehouse.run("SELECT name, id FROM public_history.people WHERE extracted_at = %s", D1))
    assert {*tokens.values()} < {id_ for id_, in project.warehouse.run("SELECT id FROM people")}
    project.source.run("INSERT INTO people SELECT g, 'x', now() FROM generate_series(20, 40) g")
    refused = take(D3, check=False)
    assert "max_change: expected a change of at most 30% from the 11 rows of 2024-01-21, found 32 rows" in refused.text
    assert project.warehouse.one("SELECT count(*) FROM people") == 11
    found = [line for line in revealed(people, D2, "people") if PLAIN in line]
    assert len(found) == 10, "the whole table of an increment"
    assert PLAIN.encode() not in b"".join(project.landed().values())


def test_appended_files_keep_their_contract_and_their_protection_on_every_date(people):
    project = people.project
    entity = {"entity": "sales", "path": "extract/sales_{date}.csv", "keys": ["tx"], "load": "append",
              "on_bad_rows": "quarantine", "on_duplicate_key": "keep_first", "metadata": True,
              "columns": {"amount": {"type": "numeric(9,2)", "minimum": 0}, "method": {"normalize": ["trim", "lower"]}},
              "protect": {"customer": "token"}}
    project.csv(f"sales_{D1}.csv", f"tx,customer,amount,method\n1,{PLAIN},5, Card \n2,{PLAIN},-1,cash\n3,b,7,cash\n")
    project.csv(f"sales_{D2}.csv", f"tx,customer,amount,method\n3,c,9,cash\n4,{PLAIN},1,CASH\n5,b,-2,card\n")
    for day in (D1, D2):
        people.extract(day)
        people.extract(day, "csv", files=[entity])
        people.load(day)
    rows = project.warehouse.run("SELECT tx, amount::text, method FROM sales ORDER BY tx")
    assert rows == [(1, "5.00", "card"), (3, "7.00", "cash"), (4, "1.00", "cash")]
    assert project.warehouse.one("SELECT count(DISTINCT customer) FROM sales") == 2, "tokens join across dates"
    assert project.warehouse.one("SELECT count(*) FROM public_history.sales WHERE extracted_at = %s", D1) == 2
    assert people.proved(D1)
    assert people.proved(D2)
    files = {key: content for key, content in project.landed().items() if "source=csv" in key}
    assert PLAIN.encode() not in b"".join(files.values())
    quarantined = [content for key, content in files.items() if key.endswith(".jsonl")]
    assert len(quarantined) == 2
    assert all(content.count(b'"rule": "minimum"') == 1 for content in quarantined)
