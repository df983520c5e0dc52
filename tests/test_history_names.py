"""What a person reads in history, in DBeaver or psql, is named after the table and the date that it belongs to."""

import pytest
from dates import Dates

D1, D2 = "2024-01-20", "2024-01-21"
TYPES = {"id": "integer", "a": "text"}
ROWS = [["1", "x"]]
NAMES = """
SELECT relname FROM pg_class WHERE relnamespace = 'public_history'::regnamespace
UNION ALL SELECT conname FROM pg_constraint WHERE connamespace = 'public_history'::regnamespace ORDER BY 1
"""


@pytest.fixture
def dates(project):
    dates = Dates(project)
    yield dates
    dates.close()


def names(dates, *parts):
    return sorted({name for name, in dates.run(NAMES) if all(part in name for part in parts)})


def load(dates, day, **tables):
    dates.land(day, **(tables or {"orders": (TYPES, ROWS, "id")}))
    dates.load(day)


def test_partitions_indexes_and_constraints_are_named_after_table_and_date(dates):
    load(dates, D1)
    load(dates, D2)
    expected = [f"orders@{D1}", f"orders@{D1}_extracted_at_check", f"orders@{D1}_pkey"]
    if dates.connection.server_version >= 180000:  # since then NOT NULL has a name
        expected = sorted([*expected, f"orders@{D1}_extracted_at_not_null", f"orders@{D1}_id_not_null"])
    assert names(dates, D1) == expected
    assert names(dates, "_staging_") == []
    for _ in range(2):  # replaced, the partition keeps its names
        dates.load(D1, reload=True)
        assert names(dates, D1) == expected
        assert names(dates, "_staging_") == []


def test_a_name_that_is_taken_or_too_long_ends_in_a_hash(dates):
    long = {"é" * 30 + end: (TYPES, ROWS, "id") for end in "ab"}
    load(dates, D1, orders=(TYPES, ROWS, "id"), **long)
    keys = names(dates, D1, "_pkey")
    assert len(keys) == 3
    assert all(len(name.encode()) <= 63 for name in keys)
    assert sum(name.startswith("é" * 18) for name in keys) == 2
    # A person keeps a partition aside under another name: its index still has the name that the date's has.
    dates.run(f'ALTER TABLE public_history.orders DETACH PARTITION public_history."orders@{D1}";'
              f'ALTER TABLE public_history."orders@{D1}" RENAME TO mine')
    for _ in range(2):
        dates.load(D1, reload=True)
        assert dates.run("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass",
                         f'public_history."orders@{D1}"') != [(f'public_history."orders@{D1}_pkey"',)]
        assert dates.one("SELECT count(*) FROM pg_index WHERE indrelid = 'public_history.mine'::regclass") == 1
        assert dates.one("SELECT indexrelid::regclass::text FROM pg_index "
                         "WHERE indrelid = 'public_history.mine'::regclass") == f'public_history."orders@{D1}_pkey"'


def test_a_partition_of_an_older_version_is_replaced_by_one_with_the_new_names(dates):
    load(dates, D1)
    dates.run(f'ALTER INDEX public_history."orders@{D1}_pkey" RENAME TO "_staging_20240120t000000z_0_pkey"')
    dates.load(D1, reload=True)
    assert f"orders@{D1}_pkey" in names(dates, D1)
    assert names(dates, "_staging_") == []
