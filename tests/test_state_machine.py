"""A sample of the state machine, the whole of which is `make soak`."""

import contextlib
from collections import Counter

import machine
import pytest
import steps
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

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


def test_a_sequence_with_increments_a_base_that_is_taken_again_and_a_check_that_blocks(server, monkeypatch):
    """What a sample this small may not come to."""
    monkeypatch.setattr(machine.Machine, "server", server)
    before = Counter(steps.outcomes)
    at_work, first = machine.Machine(), {"source": machine.POSTGRES, "table": 0}
    monkeypatch.setattr(steps, "current_date", lambda: at_work.today)  # also at midnight
    sequence = [
        lambda: at_work.begin(loaded=True, sources=2, by_key=0, checked=True, methods={}),
        lambda: at_work.insert(**first, number=7, value=1, then="nothing"),
        lambda: at_work.next_date(schema="public"),
        lambda: at_work.update(**first, column=1, then="nothing"),
        lambda: at_work.next_date(schema="public"),
        lambda: at_work.load_all(schema="mart", backwards=True),
        lambda: at_work.gc(keep="0", dead=False),
        lambda: at_work.drop_date(number=0),
        lambda: at_work.damage(number=1, source=machine.POSTGRES, file=0),
        lambda: at_work.take(source=machine.POSTGRES, day=machine.DAYS[0], reextract=True, connections=1, batch=True,
                             compression="none"),
        lambda: at_work.load_all(schema="public", backwards=False),
        lambda: at_work.csv_fill(entity="items", column=0, value="no rows", then="nothing"),
        lambda: at_work.next_date(schema="public"),
    ]
    with contextlib.closing(at_work.world):
        for step in sequence:
            step()
            at_work.check()
    outcomes = Counter(steps.outcomes) - before
    assert outcomes["increments"] >= 2
    assert outcomes["broken"] >= 1
    assert outcomes["blocked"] == 1
