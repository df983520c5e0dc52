"""Messages of a tap that come a second time, with the landing zone in a store, where their files stay in place."""

import pytest

D1 = "2024-01-20"


@pytest.fixture
def saved(shop, store):
    """A date that is landed in a store, and the tap's messages that did it."""
    from landed import InStore

    shop.land_in(InStore(store, f"zone-{shop.source.name}"))
    tap = shop.run(shop.tap_postgres(), DATESTAMP=D1)
    assert tap.returncode == 0, tap.stderr
    return shop, tap.stdout


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_a_refused_replay_leaves_the_landed_files(saved):
    shop, messages = saved
    first = shop.run(shop.target_csv(), messages, DATESTAMP=D1)
    assert first.returncode == 0, first.stderr
    before = shop.landed()
    for variables in ({"REEXTRACT": "true"}, {}):
        again = shop.run(shop.target_csv(), messages, DATESTAMP=D1, **variables)
        assert shop.landed() == before, again.stderr
