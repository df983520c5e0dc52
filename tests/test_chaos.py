"""A sample of the crash matrices, the whole of which is `make chaos`."""

import chaos
import pytest
import store_chaos

EVERY = 34  # cases of each program, each kind of boundary, each mode
EVERY_ON_STORE = 79


def test_whoever_is_killed_wherever_the_date_is_as_before_or_as_after_and_the_next_run_heals():
    with chaos.staged() as stage:
        matrix = chaos.Matrix(stage, EVERY)
        matrix.prepare()
        matrix.run()
        matrix.every, matrix.kill = 5, chaos.PARENT  # few and slow, so that the sample may have none
        matrix.run()
    assert not matrix.failed, [f"{case}: {why}" for case, why in matrix.failed]
    assert len(matrix.held) > 10
    assert matrix.unfired < len(matrix.held) / 3
    assert {case.kill for case, *_ in matrix.held} == {chaos.SELF, chaos.BACKEND, chaos.PARENT}
    assert {left for *_, left in matrix.held} == {chaos.BEFORE, chaos.AFTER}, "dates were lost and dates were gained"


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_whoever_is_killed_at_whatever_request_to_a_store_the_next_run_heals(server, store, tmp_path):
    with store_chaos.staged(server, store, tmp_path) as stage:
        matrix = store_chaos.Matrix(stage, EVERY_ON_STORE)
        matrix.prepare()
        matrix.run()
    assert not matrix.failed, [f"{case}: {why}" for case, why in matrix.failed]
    assert len(matrix.held) > 3
    assert matrix.unfired < len(matrix.held)
