"""`landing diff` counts what was inserted, updated and deleted from one loaded date to another, by COPY's own text."""

import contextlib
import json
from dataclasses import replace

import pytest
from landing.verify.diff import Comparison

D1, D2, D3 = "2024-01-20", "2024-01-21", "2024-01-22"

BEFORE = """
CREATE TABLE keyed (id integer, part text, note text, n numeric, doc json, spot point, fixed char(4),
                    PRIMARY KEY (id, part));
INSERT INTO keyed VALUES
    (1, 'a', 'same', 1.0, '{"a": 1}', '(1,2)', 'x'), (2, 'a', NULL, 1, NULL, NULL, NULL),
    (3, 'a', 'value', 1, NULL, NULL, NULL), (4, 'a', NULL, 1.0, NULL, NULL, NULL),
    (5, 'a', NULL, NULL, '{"a":1}', NULL, NULL), (6, 'a', NULL, NULL, NULL, '(1,2)', NULL),
    (7, 'a', 'goes', NULL, NULL, NULL, NULL), (8, 'a', NULL, 'NaN', NULL, NULL, 'a');
CREATE TABLE heap (a integer, doc json);
INSERT INTO heap VALUES (1, '[]'), (1, '[]'), (1, '[]'), (2, NULL), (3, '1'), (NULL, NULL);
CREATE TABLE rekeyed (id integer PRIMARY KEY, v integer);
INSERT INTO rekeyed VALUES (1, 1), (2, 2);
CREATE TABLE goes (id integer PRIMARY KEY);
INSERT INTO goes VALUES (1), (2);
CREATE TABLE wide (id integer PRIMARY KEY, v integer);
INSERT INTO wide VALUES (1, 1), (2, 2), (3, 3);
"""

AFTER = """
UPDATE keyed SET note = '' WHERE id = 2;
UPDATE keyed SET note = NULL WHERE id = 3;
UPDATE keyed SET n = 1.00 WHERE id = 4;
UPDATE keyed SET doc = '{"a": 1}' WHERE id = 5;
UPDATE keyed SET spot = '(1,3)' WHERE id = 6;
DELETE FROM keyed WHERE id = 7;
INSERT INTO keyed VALUES (7, 'b', 'comes', NULL, NULL, NULL, NULL), (9, 'a', 'comes', NULL, NULL, NULL, NULL);
UPDATE keyed SET note = note WHERE id = 1;
TRUNCATE heap;
INSERT INTO heap VALUES (1, '[]'), (2, NULL), (2, NULL), (3, '1 '), (NULL, NULL);
ALTER TABLE rekeyed DROP CONSTRAINT rekeyed_pkey, ADD PRIMARY KEY (v);
UPDATE rekeyed SET v = 3 WHERE id = 2;
DROP TABLE goes;
CREATE TABLE comes (id integer PRIMARY KEY, v text);
INSERT INTO comes VALUES (1, 'x');
ALTER TABLE wide ALTER v TYPE bigint, ADD w text;
UPDATE wide SET w = 'new' WHERE id = 2;
UPDATE wide SET v = 9 WHERE id = 3;
"""


@pytest.fixture
def two_dates(project):
    """A project with two loaded dates that differ in all ways."""
    project.source.run(BEFORE)
    project.land(D1)
    project.load(D1)
    project.source.run(AFTER)
    details = project.folder / "extract/order_details.csv"
    details.write_text(details.read_text().replace("9.8,10", "9.8,11"))
    project.land(D2)
    project.load(D2)
    return project


def counted(project, first, second, *arguments):
    """(rows, rows, inserted, updated, deleted, unchanged) of each table, and all that is said of it."""
    tables = json.loads(project.landing("diff", first, second, "--json", *arguments).stdout)
    said = {one["table"]: one for one in tables}
    names = ("rows_before", "rows_after", "inserted", "updated", "deleted", "unchanged")
    return {table: tuple(one[name] for name in names) for table, one in said.items()}, said


def test_changes_made_by_hand_are_counted_and_backwards_mirrored(two_dates):
    counts, said = counted(two_dates, D1, D2)
    assert counts == {
        "order_details": (2, 2, 0, 1, 0, 1),
        "keyed": (8, 9, 2, 5, 1, 2),
        "heap": (6, 5, 2, 0, 3, 3),
        "rekeyed": (2, 2, 1, 0, 1, 1),
        "goes": (2, None, 0, 0, 2, 0),
        "comes": (None, 1, 1, 0, 0, 0),
        "wide": (3, 3, 0, 2, 0, 1),
    }
    assert said["keyed"]["key"] == ["id", "part"]
    assert said["heap"]["key"] is None
    assert (said["heap"]["note"], said["rekeyed"]["note"]) == ("no key", "key changed: compared without key")
    assert (said["goes"]["note"], said["comes"]["note"]) == (f"only on {D1}", f"only on {D2}")
    back, _ = counted(two_dates, D2, D1)
    assert back == {table: (after, before, deleted, updated, inserted, same)
                    for table, (before, after, inserted, updated, deleted, same) in counts.items()}
    none, _ = counted(two_dates, D1, D1)
    assert all(before == after == same and not any(changes) for before, after, *changes, same in none.values())


def test_changed_rows_are_shown_with_what_changed_of_them(two_dates):
    _, said = counted(two_dates, D1, D2, "--rows", "20")
    keyed = {(row["change"], (row["after"] or row["before"])["id"]): row for row in said["keyed"]["rows"]}
    assert sorted(keyed) == [("deleted", "7"), ("inserted", "7"), ("inserted", "9"),
                             *(("updated", str(number)) for number in range(2, 7))]
    assert [keyed["updated", "2"][side]["note"] for side in ("before", "after")] == [None, ""]
    assert [keyed["updated", "4"][side]["n"] for side in ("before", "after")] == ["1.0", "1.00"]
    assert keyed["deleted", "7"]["after"] is None
    heap = {(row["change"], row["count"], *(row["after"] or row["before"]).values()) for row in said["heap"]["rows"]}
    assert heap == {("deleted", 2, "1", "[]"), ("deleted", 1, "3", "1"), ("inserted", 1, "2", None),
                    ("inserted", 1, "3", "1 ")}
    text = two_dates.landing("diff", D1, D2, "--rows", "1").stdout
    assert "6 rows inserted, 8 updated, 7 deleted, 8 unchanged." in text
    assert "  updated   id=2, part=a  note: NULL -> ''\n" in text
    assert text.count("\n  ") == 5  # one row of each table that both dates have


def test_a_date_that_is_not_loaded_is_named_with_its_command(shop):
    shop.land(D1)
    shop.load(D1)
    for arguments in ((D1, D3), (D3, D1)):
        result = shop.landing("diff", *arguments, check=False)
        assert result.returncode == 1
        assert f"{D3} is not loaded into public. Load it first: MELTANO_ENVIRONMENT=load SCHEMA=public " \
               f"EXTRACTED_AT={D3} meltano run load_to_postgres" in result.stderr
    refused = shop.landing("diff", D1, D1, "--schema", "other", check=False)
    assert f"{D1} is not loaded into other" in refused.stderr
    assert "is not a date" in shop.landing("diff", D1, "x", check=False).stderr
    shop.warehouse.run(f'DROP TABLE public_history."notes@{D1}"')
    assert "its partitions of notes are missing or empty" in shop.landing("diff", D1, D1, check=False).stderr


def test_all_tables_are_compared_in_one_moment(two_dates):
    with contextlib.closing(two_dates.warehouse.connect()) as connection:
        connection.autocommit = True
        changes = Comparison(connection, "public", D1, D2).tables()
        first = next(changes)
        two_dates.warehouse.run(f'INSERT INTO public_history."wide@{D2}" (id) SELECT generate_series(50, 99)')
        rest = {one.table: one for one in changes}
    assert first.table == "order_details"
    assert (rest["wide"].rows_after, rest["wide"].inserted) == (3, 0)
    with contextlib.closing(two_dates.warehouse.connect()) as connection:
        connection.autocommit = True
        later = {one.table: one for one in Comparison(connection, "public", D1, D2).tables()}
    assert later["wide"] == replace(rest["wide"], rows_after=53, inserted=50)
