"""A sample of the state machine, the whole of which is `make soak`."""

import machine
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

SAMPLE = settings(max_examples=4, stateful_step_count=15, deadline=None, derandomize=True, database=None,
                  suppress_health_check=[*HealthCheck])


def test_whatever_is_done_in_whatever_order_files_warehouse_and_views_are_what_the_sources_were(server):
    machine.Machine.server = server
    run_state_machine_as_test(machine.Machine, settings=SAMPLE)
    print(f"{machine.counts.total()} steps: {dict(machine.outcomes)}")
