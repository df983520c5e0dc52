"""The servers that stand for object stores do what real ones do, asked by obstore as the product asks them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import obstore
import pytest
from disturber import AFTER, ANSWERING, BEFORE, CUT, MIDWAY, Disturber
from obstore.store import AzureStore, GCSStore, S3Store
from stores import AZURE_KEY, BUCKET, SOUND

every_sound = pytest.mark.parametrize("store", SOUND, indirect=True)


def opened(server, prefix, port=None, retries=10):
    """A prefix of a server's bucket, as obstore sees it."""
    given = {name.lower(): value for name, value in server.environment(port).items()}
    common = {"prefix": prefix, "client_options": {"allow_http": True}, "retry_config": {"max_retries": retries}}
    if server.scheme == "s3":
        return S3Store(BUCKET, **common, config=given)
    if server.scheme == "gs":
        return GCSStore(BUCKET, **common, base_url=given["storage_emulator_host"],
                        bearer_token=given["google_bearer_token"])
    return AzureStore(BUCKET, **common, account_name=given["azure_storage_account_name"], account_key=AZURE_KEY,
                      endpoint=given["azure_storage_endpoint"])


@pytest.fixture
def prefix(store):
    return store.url().rpartition("/")[2]


def winners(write):
    """How many of eight threads' writes are carried out."""
    won = []

    def one(number):
        try:
            write(b"%d" % number)
            won.append(number)
        except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
            pass

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(won)


def version(place, key):
    found = obstore.head(place, key)
    return {name: found[name] for name in ("e_tag", "version") if found[name]}


@every_sound
def test_of_eight_that_create_one_key_one_wins(store, prefix):
    place = opened(store, prefix)
    for n in range(5):
        assert winners(lambda content, n=n: obstore.put(place, f"{n}", content, mode="create")) == 1


@every_sound
def test_of_eight_that_replace_one_version_one_wins(store, prefix):
    place = opened(store, prefix)
    for n in range(5):
        obstore.put(place, f"{n}", b"first")
        found = version(place, f"{n}")
        assert winners(lambda content, n=n, found=found: obstore.put(place, f"{n}", content, mode=found)) == 1


@pytest.mark.parametrize("store", ["rclone"], indirect=True)
def test_rclone_ignores_conditions(store, prefix):
    place = opened(store, prefix)
    obstore.put(place, "key", b"first", mode="create")
    obstore.put(place, "key", b"second", mode="create")
    assert store.read(f"{prefix}/key") == b"second"


@every_sound
def test_odd_keys_are_written_listed_copied_and_deleted(store, prefix):
    place = opened(store, prefix)
    odd = "a=1/one, two é%25 #?&+x"
    obstore.put(place, odd, b"content", mode="create")
    obstore.copy(place, odd, "b/c")
    assert store.keys(f"{prefix}/") == [f"{prefix}/{odd}", f"{prefix}/b/c"]
    assert (store.read(f"{prefix}/{odd}"), bytes(obstore.get(place, "b/c").bytes())) == (b"content", b"content")
    assert bytes(obstore.get_range(place, odd, start=2, length=3)) == b"nte"
    assert sorted(obstore.list_with_delimiter(place)["common_prefixes"]) == ["a=1", "b"]
    obstore.delete(place, [odd, "b/c"])
    assert store.keys(f"{prefix}/") == []
    with pytest.raises(FileNotFoundError):
        store.read(f"{prefix}/{odd}")


@every_sound
def test_an_upload_in_parts_is_whole_or_not_there(store, prefix):
    place = opened(store, prefix)
    content = bytes(range(256)) * (6 << 12)  # 6 MiB
    with obstore.open_writer(place, "whole", buffer_size=5 << 20) as writer:
        writer.write(content)
    assert store.read(f"{prefix}/whole") == content
    half = obstore.open_writer(place, "half", buffer_size=5 << 20)
    half.write(content)
    half.flush()
    assert store.keys(f"{prefix}/") == [f"{prefix}/whole"]
    with pytest.raises(ZeroDivisionError), half:
        raise ZeroDivisionError
    assert f"{prefix}/half" not in store.keys() + ([] if store.scheme == "az" else store.uploads())


@pytest.mark.parametrize("store", ["fakes3", "fakegcs"], indirect=True)
def test_a_long_listing_comes_in_pages(store, prefix):
    keys = [f"{prefix}/{n // 2:04}/{n % 2}" for n in range(2200)]
    place = opened(store, prefix)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: obstore.put(place, key.partition("/")[2], b""), keys))
    assert store.keys(f"{prefix}/") == keys
    assert len(obstore.list_with_delimiter(place)["common_prefixes"]) == 1100
    assert sum(map(len, obstore.list(place))) == 2200


@pytest.mark.parametrize(("moment", "action", "there"), [
    (BEFORE, 503, False), (BEFORE, CUT, False), (MIDWAY, CUT, False), (AFTER, CUT, True), (AFTER, 500, True)])
@every_sound
def test_a_disturbed_put_is_carried_out_or_not_as_the_rule_has_it(store, prefix, moment, action, there):
    with Disturber(store) as disturber:
        disturber.rule = lambda now, request: action if now == moment else None
        with pytest.raises(obstore.exceptions.BaseError):
            obstore.put(opened(store, prefix, disturber.port, retries=0), "key", b"content", use_multipart=False)
    assert store.keys(f"{prefix}/") == [f"{prefix}/key"] * there
    assert {request.method for request in disturber.seen} == {"PUT"}


@every_sound
def test_an_answer_that_is_cut_is_never_taken_for_whole(store, prefix):
    store.put(f"{prefix}/key", bytes(100_000))
    with Disturber(store) as disturber:
        place = opened(store, prefix, disturber.port, retries=0)
        assert len(obstore.get(place, "key").bytes()) == 100_000
        disturber.rule = lambda now, request: CUT if now == ANSWERING else None
        with pytest.raises(obstore.exceptions.BaseError):
            obstore.get(place, "key").bytes()
