"""What every kind of storage promises a commit: the contract of landing.storage.base.Storage."""

import contextlib
import hashlib
import io
import random
import threading

import pytest
from landing.core.errors import ZoneError
from landing.storage.base import Prefix
from landing.storage.local import LocalStorage
from landing.storage.urls import storage as storage_at
from stores import SOUND

FOLDER = "folder"


@pytest.fixture(params=[FOLDER, *SOUND])
def storage(request, tmp_path, stores, monkeypatch):
    if request.param == FOLDER:
        return LocalStorage(tmp_path / "root")
    store = stores[request.param]
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    return storage_at(store.url())


only_folders = pytest.mark.parametrize("storage", [FOLDER], indirect=True)
only_stores = pytest.mark.parametrize("storage", SOUND, indirect=True)


def write(storage, key, content=b"x"):
    with storage.create(key) as file:
        file.write(content)


def put(storage, key, content, expected=None, point=contextlib.nullcontext()):  # noqa: B008
    storage.put(key, content, "_staging/run/scratch", expected, point)


def test_a_created_file_is_read_listed_and_never_created_again(storage):
    write(storage, "a/b/one.csv", b"content")
    assert storage.open("a/b/one.csv").read() == b"content"
    assert (storage.size("a/b/one.csv"), storage.size("a/b/two.csv"), storage.size("a")) == (7, None, None)
    assert (storage.files("a/b"), storage.files("a"), storage.prefixes("a"), storage.prefixes("")) == (
        ["a/b/one.csv"], [], ["a/b"], ["a"])
    assert storage.bytes("a") == 7
    assert storage.changed("a") > 0 == storage.changed("b")
    with pytest.raises(FileExistsError):
        storage.create("a/b/one.csv")


def test_a_large_file_has_the_bytes_that_its_buffer_had_when_it_was_written(storage):
    """A writer's buffer is used again as soon as write() returns; a store's part is still under way then."""
    content = random.Random(1).randbytes(20 << 20)  # three parts
    with io.BufferedWriter(storage.create("a/large.csv"), 1 << 18) as file:
        for start in range(0, len(content), 100_000):
            file.write(content[start:start + 100_000])
    with io.BufferedReader(storage.open("a/large.csv"), 1 << 20) as file:
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(content).digest()


@only_stores
def test_a_claim_is_made_once(storage):
    storage.claim("_staging/run").release()
    with pytest.raises(BlockingIOError):
        storage.claim("_staging/run")


def test_a_url_leads_back_to_its_key_and_one_from_elsewhere_to_none(storage, tmp_path):
    write(storage, "a/one, two é%.csv")
    found = Prefix(storage, "a") / "one, two é%.csv"
    assert storage.key(found.url) == found.key
    assert storage.key((tmp_path / "other" / "x").as_uri()) is None


def test_a_moved_file_has_only_its_new_key_and_replaces_nothing(storage):
    write(storage, "_staging/run/one.csv", b"new")
    write(storage, "_staging/run/two.csv", b"other")
    storage.move("_staging/run/one.csv", "a/b/run.csv")
    assert (storage.size("_staging/run/one.csv"), storage.size("a/b/run.csv")) == (None, 3)
    with pytest.raises(FileExistsError):
        storage.move("_staging/run/two.csv", "a/b/run.csv")
    assert storage.open("a/b/run.csv").read() == b"new"


def test_a_copied_file_has_both_keys_and_replaces_nothing(storage):
    for name in ("one", "two"):
        with storage.create(f"a/{name}.csv") as file:
            file.write(name.encode())
    storage.copy("a/one.csv", "b/c/one.csv")
    with pytest.raises(FileExistsError):
        storage.copy("a/two.csv", "b/c/one.csv")
    storage.delete("a/one.csv", up_to="a")
    assert storage.read("b/c/one.csv", 100) == b"one"
    assert storage.files("a") == ["a/two.csv"]


def test_a_put_replaces_the_version_that_it_expects_and_no_other(storage):
    put(storage, "a/manifest", b"1")
    first = storage.version("a/manifest")
    put(storage, "a/manifest", b"22", first)
    assert storage.read("a/manifest", 10) == b"22"
    for wrong in (None, first):
        with pytest.raises(ZoneError, match=r"changed while its lock was held|another run.*\. Nothing was committed"):
            put(storage, "a/manifest", b"333", wrong)
    assert storage.read("a/manifest", 10) == b"22"


def test_a_put_whose_point_refuses_changes_nothing(storage):
    @contextlib.contextmanager
    def refusing():
        raise SystemExit(3)
        yield

    put(storage, "a/manifest", b"1")
    with pytest.raises(SystemExit):
        put(storage, "a/manifest", b"22", storage.version("a/manifest"), refusing())
    assert storage.read("a/manifest", 10) == b"1"


def test_what_is_too_large_or_missing_is_not_read(storage):
    write(storage, "a/large", b"x" * 11)
    with pytest.raises(ValueError, match="11 bytes; expected at most 10"):
        storage.read("a/large", 10)
    with pytest.raises(FileNotFoundError):
        storage.read("a/none", 10)


def test_a_deleted_file_takes_its_empty_prefixes_along_up_to_a_limit(storage):
    for key in ("a/b/c/one", "a/b/two"):
        write(storage, key)
    storage.delete("a/b/c/one", up_to="a")
    assert (storage.prefixes("a/b"), storage.files("a/b")) == ([], ["a/b/two"])
    storage.delete("a/b/two", up_to="a")
    storage.delete("a/b/two", up_to="a")
    assert storage.prefixes("a") == []
    write(storage, "a/b/c/one")
    storage.delete_all("a/b")
    storage.delete_all("a/b")
    assert not storage.exists("a/b/c/one")


def test_appended_lines_stay_whole_and_in_order(storage):
    threads = [threading.Thread(target=lambda n=n: [storage.append("log", b"%d\n" % n, f"run-{n}") for _ in range(10)])
               for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    lines = storage.read_all("log", 1 << 20).split()
    assert (len(lines), {*lines}) == (40, {b"0", b"1", b"2", b"3"})


@only_folders  # a store has no lock: its commit relies on the condition of put()
def test_a_lock_has_one_holder_and_a_claim_is_refused_while_another_has_it(storage):
    order, entered = [], threading.Event()

    def wait():
        entered.set()
        with storage.lock("_staging/a@b.lock"):
            order.append("second")

    with storage.lock("_staging/a@b.lock"):
        other = threading.Thread(target=wait)
        other.start()
        entered.wait(30)
        other.join(0.2)
        order.append("first")
    other.join(30)
    assert order == ["first", "second"]
    write(storage, "_staging/run/one")
    claim = storage.claim("_staging/run")
    with pytest.raises(BlockingIOError):
        storage.claim("_staging/run")
    claim.release()
    storage.claim("_staging/run").release()
    with pytest.raises(FileNotFoundError):
        storage.claim("_staging/none")
