"""What goes wrong between a run and its object store is repaired or said, and nothing is lost, doubled or half.

Every request goes through disturber.py. Faults of one request are repaired inside the run; where one is not, the run
says so by its status and its words, leaves the date as it was, and the next run is as if nothing had been.
"""

import itertools
import random
import re

import pytest
from conftest import CANARY
from disturber import AFTER, ANSWERING, BEFORE, CUT, MIDWAY, Disturber, Late
from landing.model.naming import RUN_ID
from landing.storage import object_store
from landing.storage import stores as product
from store_chaos import left_over, whole
from stores import AZURE_KEY

DAY = "2024-01-20"
PARTITION = f"source=postgres/extracted_at={DAY}"
on_s3 = pytest.mark.parametrize("store", ["fakes3"], indirect=True)


class Site:
    """A shop whose landing zone is on a store behind a proxy."""

    def __init__(self, shop, store, proxy):
        self.shop, self.store, self.proxy, self.root = shop, store, proxy, store.url()

    def land(self, rule=None, *, check=True):
        return self._run(self.shop.land, rule, check, "postgres", REEXTRACT="true")

    def load(self, rule=None, *, check=True):
        tap, target = self.shop.tap_landed(sources=["postgres"]), self.shop.target_postgres()
        return self._run(lambda _, **more: self.shop.pipe(tap, target, EXTRACTED_AT=DAY, **more), rule, check)

    def _run(self, run, rule, check, *arguments, **variables):
        self.proxy.rule = rule or (lambda moment, request: None)
        result = run(DAY, *arguments, check=check, **variables, **self.store.variables(self.root, self.proxy.port))
        require_clean(result.text)
        return result

    def landed(self):
        """Contents of the date's files, each whole."""
        return whole(self.store, self.root, PARTITION)

    def collect(self):
        """Run gc as if all runs were long over."""
        self.shop.landing("gc", "--yes", "--older-than", "0", **self.store.variables(self.root))

    def require_nothing_left(self):
        assert left_over(self.store, self.root, PARTITION) == []
        for content in self.store.content(self.root).values():
            require_clean(content.decode())

    def change(self):
        self.shop.source.run("UPDATE orders SET customer = 'changed' WHERE order_id < 5; DELETE FROM notes")


def require_clean(text):
    assert "Traceback" not in text, text
    for secret in (CANARY, AZURE_KEY):
        assert secret not in text, text


@pytest.fixture
def site(shop, store):
    with Disturber(store) as proxy:
        yield Site(shop, store, proxy)


class EachOnce:
    """Disturb the first request of each kind, and none that repeats it.

    But the answer to the beginning of an upload: the library does not read it again.
    """

    def __init__(self, moment, action):
        self._at, self._seen, self.fired = (moment, action), set(), 0

    def __call__(self, moment, request):
        kind = re.sub(f"{RUN_ID.pattern}|probe-.", "", str(request))
        if moment != self._at[0] or kind in self._seen or (moment == ANSWERING and "uploads" in request.query):
            return None
        self._seen.add(kind)
        self.fired += 1
        return self._at[1]


def is_manifest(request):
    return request.method == "PUT" and request.path.endswith("/_manifest.json")


ONCE = {"503": (BEFORE, 503), "no answer, not carried out": (BEFORE, CUT), "no answer, carried out": (AFTER, CUT),
        "500, carried out": (AFTER, 500), "request cut": (MIDWAY, CUT), "answer cut": (ANSWERING, CUT)}


@pytest.mark.parametrize("fault", ONCE)
@on_s3
def test_each_request_may_fail_once_and_runs_repair_it(site, fault):
    site.shop.source.run("CREATE TABLE large AS SELECT g AS id, repeat(md5(g::text), 32) AS text "
                         "FROM generate_series(1, 20000) g")  # 20 MB: three parts
    for _ in range(2):  # a new date, and one that is replaced
        site.land(once := EachOnce(*ONCE[fault]))
        assert once.fired > 5
        site.require_nothing_left()
        site.change()
    assert {"uploads", "partNumber"} <= {name for request in site.proxy.seen for name in request.query}
    site.load(once := EachOnce(*ONCE[fault]))
    assert once.fired or fault == "request cut"  # a load only reads
    assert site.shop.warehouse.one("SELECT sum(length(text)) FROM large") == 20000 * 32 * 32
    assert len(site.shop.rows("orders")) == 100


LOST = {"carried out": (AFTER, CUT), "not carried out": (BEFORE, CUT), "half of it sent": (MIDWAY, CUT),
        "carried out, and the answer is 500": (AFTER, 500), "carried out later": (BEFORE, Late(0.5)),
        "a conflict that is none": (BEFORE, 409), "a refusal that is none": (AFTER, 412)}


@pytest.mark.parametrize(("store", "lost"), [
    *(("fakes3", lost) for lost in LOST),
    *itertools.product(("fakegcs", "moto", "azurite"), ("carried out", "carried out, and the answer is 500"))],
    indirect=["store"])
def test_the_put_of_a_manifest_without_its_answer_commits_once(site, lost):
    before = None
    for again in (False, True):
        def once(moment, request, done=[]):  # noqa: B006 (one for each definition)
            if is_manifest(request) and moment == LOST[lost][0] and not done:
                done.append(moment)
                return LOST[lost][1]
            return None

        result = site.land(once)
        assert once.__defaults__[0], "it was not disturbed"
        assert "Landed postgres" in result.text
        assert site.landed() != before
        site.require_nothing_left()
        before = site.landed()
        if not again:
            site.change()


@pytest.mark.parametrize("moment", [BEFORE, AFTER])
@on_s3
def test_another_run_between_a_put_and_its_answer_is_not_overwritten_by_it(site, moment):
    other = Site(site.shop, site.store, site.proxy)
    other.root = site.root
    done = []

    def rule(now, request):
        if is_manifest(request) and now == moment and not done:
            done.append(now)
            site.change()
            with Disturber(site.store) as other.proxy:
                other.land()
            done.append(site.landed())
            return CUT
        return None

    result = site.land(rule, check=False)
    assert result.returncode
    assert re.search("gave no answer to this run's put", result.text), result.text
    assert site.landed() == done[1]
    site.land()
    site.collect()
    site.require_nothing_left()


@pytest.mark.parametrize("store", ["fakes3", "azurite"], indirect=True)
def test_a_store_that_denies_access_is_said_at_once_and_changes_nothing(site):
    site.land()
    before = site.landed()
    result = site.land(lambda moment, request: 403 if request.method == "PUT" else None, check=False)
    assert result.returncode
    assert "denies access" in result.text
    assert "othing was committed" in result.text
    assert site.landed() == before
    site.land()
    site.require_nothing_left()


OUT = {"data": lambda request: request.method == "PUT" and "/table=" in request.path, "the manifest": is_manifest,
       "all": lambda request: True}


@pytest.mark.parametrize("what", OUT)
@on_s3
def test_a_store_that_stays_out_of_order_is_said_and_the_next_run_lands(inside, store, monkeypatch, what):
    monkeypatch.setattr(object_store, "SETTLE", 0.5)
    monkeypatch.setattr(object_store, "PAUSE", 0.01)
    monkeypatch.setattr(product, "RETRIES", {"max_retries": 1})
    root = store.url()
    with Disturber(store) as proxy:
        for name, value in store.variables(root, proxy.port).items():
            monkeypatch.setenv(name, value)
        inside.extract(DAY)
        before = whole(store, root, PARTITION)
        inside.project.source.run("DELETE FROM notes")
        proxy.rule = lambda moment, request: 503 if OUT[what](request) else None
        result = inside.extract(DAY, check=False)
        require_clean(result.text)
        assert result.returncode
        assert "503" in result.text
        assert whole(store, root, PARTITION) == before
        proxy.rule = lambda moment, request: None
        inside.extract(DAY)
    assert whole(store, root, PARTITION) != before


@pytest.mark.parametrize("seed", range(3))
@on_s3
def test_whatever_is_disturbed_a_run_repairs_it_or_says_so_and_the_next_one_lands(site, seed):
    site.land()
    old = site.landed()
    site.change()
    other = Site(site.shop, site.store, site.proxy)
    other.land()
    new = other.landed()
    chance = random.Random(seed)

    def rule(moment, request):
        return chance.choice([500, 503, 429, 409, CUT, CUT, CUT, Late(0.1)]) if chance.random() < 0.06 else None

    result = site.land(rule, check=False)
    assert site.landed() in ((new,) if result.returncode == 0 else (old, new)), result.text
    site.land()
    assert site.landed() == new
    assert site.load(rule, check=False).returncode in (0, 1)
    site.load()
    assert len(site.shop.rows("orders")) == 100
