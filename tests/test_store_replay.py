"""Messages of a tap that come a second time, with the landing zone in a store, where their files stay in place.

And where the URLs in messages lead.
"""

import pytest
from in_process import in_process, send_csv
from landing.core.errors import UnknownOutcomeError
from landing.storage.object_store import ObjectStorage
from landing.storage.stores import Bucket
from landing.storage.urls import Files

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


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_after_an_unknown_outcome_nobody_else_takes_the_files(saved, store, monkeypatch):
    def unanswered(*arguments):
        with arguments[-1]:
            raise UnknownOutcomeError("The store did not say.")

    shop, messages = saved
    for name, value in {**store.environment(), "LANDING_ROOT": store.url(f"zone-{shop.source.name}")}.items():
        monkeypatch.setenv(name, value)
    with in_process(shop, D1):
        with monkeypatch.context() as patch:
            patch.setattr(ObjectStorage, "put", unanswered)
            assert "did not say" in send_csv(messages.encode(), trust_end_of_input=False, source="postgres").refusal
        assert "is claimed by another target" in send_csv(messages.encode(), source="postgres").refusal


@pytest.mark.parametrize("prefix", ["", "zone", "lake/zone é 1", "zone%41", "zone+1=2"])
def test_the_url_of_an_object_leads_to_it_whatever_the_prefix_is(prefix, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    storage, key = ObjectStorage(Bucket("s3", "bucket", prefix)), "source=x/table=a b%25é/1.csv"
    url = storage.url(key)
    assert storage.key(url) == key
    assert Files().at(url).key == f"{prefix}/{key}".removeprefix("/")
