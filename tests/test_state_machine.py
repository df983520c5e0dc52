"""A sample of the state machine, the whole of which is `make soak`."""

from collections import Counter

import machine
import pytest
import steps
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from step_files import BAD, GOOD
from step_protection import METHODS
from steps import DAYS
from world import CSV, POSTGRES

EXAMPLES = {"folder": 4, "fakes3": 2}  # by where the landing zone is
SAMPLE = settings(stateful_step_count=15, deadline=None, derandomize=True, database=None,
                  suppress_health_check=[*HealthCheck])


@pytest.mark.parametrize("zone", EXAMPLES)
def test_whatever_is_done_in_whatever_order_files_warehouse_and_views_are_what_the_sources_were(
    zone, server, stores, monkeypatch,
):
    monkeypatch.setattr(machine.Machine, "server", server)
    monkeypatch.setattr(machine.Machine, "store", None if zone == "folder" else stores[zone])
    run_state_machine_as_test(machine.Machine, settings=settings(SAMPLE, max_examples=EXAMPLES[zone]))
    print(f"{steps.counts.total()} steps: {dict(steps.outcomes)}")


# What a sample this small may not come to: steps by their names, with their arguments.
BASES = [
    ("begin", {"loaded": True, "sources": 2, "by_key": 0, "checked": True, "methods": {}}),
    ("insert", {"source": POSTGRES, "table": 0, "number": 7, "value": 1, "then": "nothing"}),
    ("next_date", {"schema": "public"}),
    ("update", {"source": POSTGRES, "table": 0, "column": 1, "then": "nothing"}),
    ("next_date", {"schema": "public"}),
    ("load_all", {"schema": "mart", "backwards": True}),
    ("gc", {"keep": "0", "dead": False}),
    ("drop_date", {"number": 0}),
    ("damage", {"number": 1, "source": POSTGRES, "file": 0}),
    ("take", {"source": POSTGRES, "day": DAYS[0], "reextract": True, "connections": 1, "batch": True,
              "compression": "none"}),
    ("load_all", {"schema": "public", "backwards": False}),
    ("csv_fill", {"entity": "items", "column": 0, "value": "no rows", "then": "nothing"}),
    ("next_date", {"schema": "public"}),
]
FILES_AND_KEYS = [
    ("begin", {"loaded": True, "sources": 2, "by_key": 0, "checked": False, "methods": METHODS[0]}),
    ("new_orders", {"numbers": ["1", "51", "1", "x"], "values": [*GOOD, BAD[0]], "then": "nothing"}),
    ("person", {"source": POSTGRES, "number": 2, "value": "'a long text'", "then": "nothing"}),
    ("new_sales", {"numbers": ["1", "7", None, "7"], "value": "ten", "then": "nothing"}),
    ("declare", {"entity": "sales", "load": "append", "on_duplicate_key": "keep_last", "on_bad_rows": "quarantine"}),
    ("rotate_keys", {"token": True}),
    ("next_date", {"schema": "public"}),
    ("person", {"source": POSTGRES, "number": 3, "value": "NULL", "then": "next date"}),
    ("reveal", {"number": 2, "source": POSTGRES, "table": 1}),
    ("reveal", {"number": 1, "source": CSV, "table": 0}),
    ("protect_others", {"methods": METHODS[2]}),  # of a column of sales, to which rows are appended
    ("take_whole_date", {"day": "today"}),
]


@pytest.mark.parametrize(("sequence", "reached"), [
    (BASES, {"increments": 2, "broken": 1, "blocked": 1}),
    (FILES_AND_KEYS, {"increments": 1, "appended": 1, "rejected": 4, "revealed": 2, "refused files": 1}),
], ids=["bases", "files and keys"])
def test_a_sequence_of_steps_reaches(sequence, reached, server, monkeypatch):
    monkeypatch.setattr(machine.Machine, "server", server)
    before, at_work = Counter(steps.outcomes), machine.Machine()
    monkeypatch.setattr(steps, "current_date", lambda: at_work.today)  # also at midnight
    try:
        for name, arguments in sequence:
            getattr(at_work, name)(**arguments)
            at_work.check()
    finally:
        at_work.teardown()
    outcomes = Counter(steps.outcomes) - before
    assert {name: min(outcomes[name], least) for name, least in reached.items()} == reached
