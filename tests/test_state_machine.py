"""A sample of the state machine, the whole of which is `make soak`."""

import machine
import pytest
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
    print(f"{machine.counts.total()} steps: {dict(machine.outcomes)}")
