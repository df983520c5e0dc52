"""With `runs: keep` every run of a date stays readable: whoever is killed, and whatever follows."""

import contextlib
import json
import random
import re
from datetime import date, timedelta

import pytest
from landing.core.dates import today
from landing.core.errors import DamagedError, ZoneError
from landing.load.drop import Drop
from landing.model.increment import Increment
from landing.model.naming import new_run_id
from landing.storage import hashing
from landing.storage.local import LocalStorage
from landing.storage.object_store import ObjectStorage
from landing.zone import layout, moves
from landing.zone.chains import chain, require_whole, standing_on
from landing.zone.commit import commit, unlisted
from landing.zone.copy import COPIED, THERE, PartitionCopy
from landing.zone.gc import ZoneLeftovers, removed
from landing.zone.in_place import table_files
from landing.zone.landing_zone import LandingZone
from landing.zone.moves import MoveList
from landing.zone.removal import remove
from landing.zone.rename import ZoneRename
from msgspec import structs
from test_incremental import STEPS, dates  # noqa: F401 (a fixture)
from test_power_loss import ABSENT, DAY, holds, made  # noqa: F401 (a fixture)
from test_store_commit import DAY as AT
from test_store_commit import RACERS, every_store, race  # noqa: F401 (a fixture)
from zones import Killed, killed, land, landed_file

D1, D2, D3 = (f"2024-01-{day}" for day in (20, 21, 22))
ONE = {"a": ["0.csv"]}


@pytest.fixture
def zone(tmp_path):
    return LandingZone.at(tmp_path / "output")


def day(text):
    return date.fromisoformat(text)


def readable(zone, source="postgres", at=D1):
    """Rows of each run of a date by its id, the newest last, each with all of its files as they were landed."""
    newest = zone.manifest(source, day(at))
    manifests = [zone.kept(source, day(at), run) for run in zone.earlier(newest)] + [newest] if newest else []
    for one in manifests:
        for file in one.all_files:
            assert hashing.sha256(zone.file(one, file)) == file.sha256
    return {one.run_id: one.rows for one in manifests}


def runs(zone, *rows, keep=True, **more):
    """Runs of so many rows a table, each kept by the next; their ids."""
    return [land(zone, rows=number, keep=keep, files=ONE, **more) for number in rows]


def test_three_runs_of_a_day_are_readable_and_the_manifest_is_the_newests(zone):
    first, second, third = runs(zone, 1, 2, 3)
    assert readable(zone) == {first: 1, second: 2, third: 3}
    assert zone.require("postgres", day(D1)).run_id == third
    assert [zone.manifest("postgres", day(D1), one).rows for one in (first, second, third)] == [1, 2, 3]
    assert zone.manifest("postgres", day(D1), new_run_id()) is None
    assert unlisted(zone, zone.require("postgres", day(D1))) == []
    assert [*ZoneLeftovers(zone, older_than=0)] == []


def test_a_run_that_replaces_removes_only_the_newest_before_it(zone):
    first, second = runs(zone, 1, 2)
    third, = runs(zone, 3, keep=False)
    assert readable(zone) == {first: 1, third: 3}
    assert len(zone.storage.walk(layout.partition("postgres", day(D1)))) == 4
    assert second not in str(zone.storage.walk(""))


def test_a_run_that_is_killed_at_any_step_leaves_all_earlier_ones_and_the_next_keeps_them(zone, monkeypatch):
    expected, steps, done = dict(zip(runs(zone, 1, 2), (1, 2), strict=True)), 0, False
    while not done:
        steps += 1
        with monkeypatch.context() as patch:
            begun = killed(patch, steps)
            with contextlib.suppress(Killed):
                runs(zone, 3)
        done = len(begun) < steps
        found = readable(zone)
        assert found.items() >= expected.items()
        assert [found[run] for run in found if run not in expected] in ([], [3])
        expected = found | {runs(zone, 4)[0]: 4}
        assert readable(zone) == expected
    assert steps > 6
    [*removed(ZoneLeftovers(zone, older_than=0))]
    assert readable(zone) == expected


def test_a_run_that_fails_before_its_commit_point_changes_nothing_that_is_readable(zone, monkeypatch):
    first, second = runs(zone, 1, 2)

    def put(storage, key, *more, real=LocalStorage.put):
        if key.endswith("/_manifest.json"):
            raise OSError(28, "No space left on device")
        return real(storage, key, *more)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put", put)
        with pytest.raises(OSError, match="No space left"):
            runs(zone, 3)
    assert readable(zone) == {first: 1, second: 2}
    assert zone.kept_runs("postgres", day(D1)) == sorted([first, second]), "the newest's second name is no run more"
    third, = runs(zone, 3)
    assert readable(zone) == {first: 1, second: 2, third: 3}


def test_a_manifest_that_cannot_be_used_is_replaced_with_a_warning(zone, caplog):
    first, second = runs(zone, 1, 2)
    (zone.storage.root / layout.manifest("postgres", day(D1))).write_text("{")
    third, = runs(zone, 3)
    assert "cannot be used" in caplog.text
    assert readable(zone) == {first: 1, third: 3}
    assert second != third


def swept(zone):
    """`gc --keep-runs 0 --older-than 0 --yes`: what it removed."""
    return [*removed(ZoneLeftovers(zone, older_than=0, first_kept=today()))]


def damage(zone, run, at=D1, text="{"):
    (zone.storage.root / layout.kept_manifest("postgres", day(at), run)).write_text(text)


def test_where_a_kept_runs_manifest_is_damaged_no_file_is_removed_and_the_run_is_named(zone, caplog):
    first, second, third = runs(zone, 1, 2, 3)
    before = {*zone.storage.walk(layout.partition("postgres", day(D1)))}
    damage(zone, first)
    fourth, = runs(zone, 4, keep=False)
    assert "could not be removed" in caplog.text
    assert {*zone.storage.walk(layout.partition("postgres", day(D1)))} > before
    assert [*ZoneLeftovers(zone, older_than=0)] == []
    damage(zone, first, text=zone.storage.read(layout.manifest("postgres", day(D1)), 1 << 20).decode())
    with pytest.raises(DamagedError, match=f"is the manifest of run {fourth}; it does not match its name"):
        zone.kept("postgres", day(D1), first)
    damage(zone, first, text="{")
    swept(zone)
    [*removed(ZoneLeftovers(zone, older_than=0))]
    assert readable(zone) == {fourth: 4}
    assert len(zone.storage.walk(layout.partition("postgres", day(D1)))) == 2
    assert {second, third}.isdisjoint(readable(zone))


def test_a_drop_takes_all_runs_and_leaves_none_to_the_next_wherever_it_is_killed(zone, monkeypatch):
    steps, done = 0, False
    while not done:
        steps += 1
        three = dict(zip(runs(zone, 1, 2, 3), (1, 2, 3), strict=True))
        with monkeypatch.context() as patch:
            begun = killed(patch, steps)
            with contextlib.suppress(Killed):
                remove(zone, "postgres", day(D1))
        done = len(begun) < steps
        left = readable(zone)
        assert left.items() <= three.items()
        assert not left or [*left][-1] == [*three][-1], "a date that is there is the newest run"
        remove(zone, "postgres", day(D1))
        assert zone.storage.walk(layout.partition("postgres", day(D1))) == []
        assert readable(zone) == {}
    assert steps > 5


def increment(zone, at, base):
    """A run of a table that stands on a run of an earlier date; its id."""
    manifest, run_id = zone.manifest("postgres", day(base[0]), base[1]), new_run_id()
    place, file = landed_file(zone.staging(run_id) / "0.csv", 1)
    below, = manifest.tables
    one = Increment(base=day(base[0]), base_run_id=base[1], base_sha256=below.chain_sha256, number=1,
                    total_rows=below.total_rows + 1)
    commit(zone, structs.replace(manifest, extracted_at=day(at), run_id=run_id, tables=[
        structs.replace(below, files=[file], increment=one)]), {"a": [place]}, keep=True)
    zone.discard(run_id)
    return run_id


def test_a_chain_whose_base_was_superseded_on_its_date_is_whole(zone):
    first, = runs(zone, 5)
    second = increment(zone, D2, (D1, first))
    runs(zone, 7, 8)
    third = increment(zone, D3, (D2, second))
    increment(zone, D2, (D1, zone.require("postgres", day(D1)).run_id))
    manifest = zone.require("postgres", day(D3))
    require_whole(zone, manifest)
    links = chain(zone, manifest, manifest.tables[0])
    assert [link.manifest.run_id for link in links] == [first, second, third]
    assert all(zone.file(link.manifest, file) for link in links for file in link.table.files)
    runs(zone, 9, keep=False)
    require_whole(zone, manifest)


def test_a_base_that_is_not_kept_is_named_as_one_that_was_taken_again(zone):
    first, = runs(zone, 5, keep=False)
    increment(zone, D2, (D1, first))
    new, = runs(zone, 7, keep=False)
    with pytest.raises(DamagedError, match=f"was taken again, by run {new}"):
        require_whole(zone, zone.require("postgres", day(D2)))


def test_what_stands_on_a_date_is_known_by_run(zone):
    first, = runs(zone, 5)
    second = increment(zone, D2, (D1, first))
    other, = runs(zone, 6)
    increment(zone, D3, (D2, second))
    assert standing_on(zone, "postgres", day(D1), {first}) == [day(D2), day(D3)]
    assert standing_on(zone, "postgres", day(D1), {other}) == []
    runs(zone, 9, day=D2)
    assert standing_on(zone, "postgres", day(D1), {first}) == [day(D3)]
    assert standing_on(zone, "postgres", day(D1), {first}, kept=True) == [day(D2), day(D3)]


def test_a_date_on_which_only_an_earlier_run_stands_is_not_dropped_and_the_way_out_is_named(zone):
    first, = runs(zone, 5)
    increment(zone, D2, (D1, first))
    with pytest.raises(ZoneError, match=r"first: .* extract_postgres$"):
        [*Drop(zone, None, day(D1), None)]
    runs(zone, 6, day=D2)
    with pytest.raises(ZoneError, match=f"Of {D2} only earlier runs do: `landing gc --keep-runs 0` lists"):
        [*Drop(zone, None, day(D1), None)]
    swept(zone)
    for one in Drop(zone, None, day(D1), None):
        remove(zone, "postgres", day(D1)) if one.kind == "landed date" else None
    assert readable(zone) == {}


def test_moves_of_a_kept_run_are_those_of_a_run_that_committed(zone):
    first, second = runs(zone, 1, 2)
    todo = {run: MoveList(source="postgres", extracted_at=day(D1), run_id=run, inputs={}) for run in (first, second)}
    runs(zone, 3, keep=False)
    assert {run: moves.is_committed(zone, one) for run, one in todo.items()} == {first: True, second: False}


def test_gc_removes_earlier_runs_on_demand_but_none_that_a_chain_needs_and_none_of_today(zone):
    first, = runs(zone, 5)
    increment(zone, D2, (D1, first))
    second, third = runs(zone, 6, 7)
    now = str(today())
    todays = runs(zone, 1, 2, day=now)
    assert [*ZoneLeftovers(zone, older_than=0)] == []
    found = swept(zone)
    assert [(one.kind, one.what, one.rows, wrong) for one, wrong in found] == [
        ("earlier run", layout.kept_manifest("postgres", day(D1), second), 6, "")]
    assert readable(zone) == {first: 5, third: 7}
    assert second not in str(zone.storage.walk(""))
    assert readable(zone, at=now) == dict(zip(todays, (1, 2), strict=True))
    require_whole(zone, zone.require("postgres", day(D2)))
    assert [*ZoneLeftovers(zone, older_than=0, first_kept=today())] == []
    gone = {one.what for one, _ in removed(ZoneLeftovers(zone, today() + timedelta(days=1), 0))}
    assert gone == {layout.partition("postgres", day(one)) for one in (D1, D2)}
    assert zone.storage.walk(layout.partition("postgres", day(D1))) == []


def test_gc_keeps_what_an_earlier_run_stands_on_as_long_as_that_run(zone):
    first, = runs(zone, 5)
    second = increment(zone, D2, (D1, first))
    third, = runs(zone, 6, day=D2)
    tomorrow = today() + timedelta(days=1)
    assert [*ZoneLeftovers(zone, day(D2), older_than=0)] == []
    assert readable(zone, at=D2) == {second: 6, third: 6}
    gone = [(one.kind, one.what) for one, _ in removed(ZoneLeftovers(zone, day(D2), 0, tomorrow))]
    assert gone == [("landed date", layout.partition("postgres", day(D1))),
                    ("earlier run", layout.kept_manifest("postgres", day(D2), second))]
    assert readable(zone, at=D2) == {third: 6}


def test_gc_that_is_killed_at_any_step_leaves_whole_runs(zone, monkeypatch):
    steps, done = 0, False
    while not done:
        steps += 1
        newest = runs(zone, 1, 2, 3)[-1]
        with monkeypatch.context() as patch:
            begun = killed(patch, steps)
            with contextlib.suppress(Killed):
                swept(zone)
        done = len(begun) < steps
        assert newest in readable(zone)
        swept(zone)
        assert [*removed(ZoneLeftovers(zone, older_than=0))] == []
        assert readable(zone) == {newest: 3}
    assert steps > 4


def is_whole(zone, at, run):
    try:
        require_whole(zone, zone.manifest("postgres", day(at), run))
    except DamagedError:
        return False
    return True


def below(bases, some, there=None):
    """These runs, by date and id, and all that they stand on; `there`: up to one that is none of these."""
    found, todo = set(), [*some]
    while todo:
        found.add(one := todo.pop())
        base = bases.get(one[1])
        todo += [base] if base and (there is None or base[1] in there[base[0]]) else []
    return found


@pytest.mark.parametrize("seed", range(6))
def test_whatever_follows_and_is_killed_every_run_is_readable_that_has_to_be(zone, monkeypatch, seed):
    go_through(zone, monkeypatch, seed, LocalStorage)


def go_through(zone, monkeypatch, seed, storage):
    """Thirty random runs, removals and kills of three dates; what has to be there after each."""
    choose, bases, all_days = random.Random(seed), {}, (D1, D2, D3)
    after = {at: {} for at in all_days}
    for _ in range(30):
        before, at, end = after, choose.choice(all_days), choose.choice([*range(1, 9), *[999] * 8])
        newest = {one: [*found][-1] for one, found in before.items() if found}
        base = choose.choice([(one, run) for one, run in newest.items() if one < at] or [None])
        what = choose.choice(["keep", "keep", "replace", "increment", "increment", "gc", "drop"])
        needed = {one for found in before.values() for one in map(bases.get, found)} - {None}
        stands = {one for one in needed if one[0] == at and one[1] in before[at]}
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            killed(patch, end, storage)
            if what == "increment" and base:
                increment(zone, at, base)
            elif what == "gc":
                assert not [wrong for _, wrong in swept(zone) if wrong]
            elif what == "drop":
                assert bool(standing_on(zone, "postgres", day(at), before[at], kept=True)) == bool(stands)
                if not stands:
                    remove(zone, "postgres", day(at))
            else:
                what = "keep" if what == "increment" else what
                runs(zone, choose.randint(1, 9), day=at, keep=what == "keep")
        after = {one: readable(zone, at=one) for one in all_days}
        new = {*after[at]} - {*before[at]}
        lost = {(one, run) for one in all_days for run in before[one] if run not in after[one]}
        if what == "gc":
            stay = below(bases, newest.items(), before)
            assert lost.isdisjoint(stay), "it removed what a run stands on"
            assert end < 999 or {(one, run) for one in all_days for run in after[one]} <= stay
            assert not new
        elif what == "drop":
            assert end < 999 or stands or not after[at]
            assert not new
            assert {one for one, _ in lost} <= ({at} if not stands else set())
        else:
            assert lost <= ({(at, newest.get(at))} if what == "replace" else set())
            assert len(new) == 1 if end == 999 else len(new) <= 1
            bases |= dict.fromkeys(new, base if what == "increment" else None)
        for at in all_days:
            for run in after[at]:
                assert is_whole(zone, at, run) == all(one in after[of] for of, one in below(bases, [(at, run)]))


def copied(zone, there, replace=False):
    return PartitionCopy(zone, there, "postgres", day(D1), replace=replace).run().outcome


def test_a_copy_brings_all_runs_and_goes_on_from_one_to_the_next(zone, tmp_path):
    there = LandingZone.at(tmp_path / "there")
    first, second = runs(zone, 1, 2)
    assert copied(zone, there) == COPIED
    assert readable(there) == readable(zone) == {first: 1, second: 2}
    third, = runs(zone, 3)
    times = {path: path.stat().st_mtime_ns for path in there.storage.root.rglob("*.csv")}
    assert copied(zone, there) != THERE, "the run that is there is kept here, so nothing is lost by going on"
    assert readable(there) == {first: 1, second: 2, third: 3}
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert copied(zone, there) == THERE
    there.storage.delete(layout.kept_manifest("postgres", day(D1), first), "")
    assert copied(zone, there) == COPIED
    assert readable(there) == readable(zone)


def test_a_copy_that_is_killed_at_any_step_leaves_whole_runs_and_the_next_completes_it(zone, tmp_path, monkeypatch):
    three, steps, done = dict(zip(runs(zone, 1, 2, 3), (1, 2, 3), strict=True)), 0, False
    while not done:
        steps += 1
        there = LandingZone.at(tmp_path / f"there{steps}")
        with monkeypatch.context() as patch:
            begun = killed(patch, steps)
            with contextlib.suppress(Killed):
                copied(zone, there)
        done = len(begun) < steps
        assert readable(there) in ({}, three), "kept runs come before the newest"
        copied(zone, there)
        assert readable(there) == three
    assert steps > 8


def renamed(zone, old, new):
    for change in ZoneRename(zone, old, new).changes():
        change.apply()


def test_a_rename_takes_all_runs_with_it_wherever_it_is_killed(zone, monkeypatch):
    three, names, steps, done = dict(zip(runs(zone, 1, 2, 3), (1, 2, 3), strict=True)), ("postgres", "shop"), 0, False
    while not done:
        steps += 1
        with monkeypatch.context() as patch:
            begun = killed(patch, steps)
            with contextlib.suppress(Killed):
                renamed(zone, *names)
        done = len(begun) < steps
        assert three in (readable(zone, names[0]), readable(zone, names[1]))
        renamed(zone, *names)
        names = names[::-1]
        assert readable(zone, names[0]) == three
        assert zone.storage.walk(f"source={names[1]}") == []
    assert steps > 8
    assert zone.kept(names[0], day(D1), next(iter(three))).source == names[0]


def test_after_a_power_loss_the_newest_run_never_comes_without_the_one_before_it(made):  # noqa: F811
    first = made.send(runs="keep")
    for _ in range(2):
        before, second = made.during(lambda: made.send(rows=7, runs="keep"))
        for found in made.outcomes(before, made.steps, made.partition()):
            assert found <= {first, second}
            assert second not in found or f"_manifest.{first}.json" in before.surely(made.partition())
        assert found == {second}
        first = second
    at = date.fromisoformat(DAY)
    run = made.zone.earlier(made.zone.require("own", at))[0]
    holds(made, lambda: [*removed(ZoneLeftovers(made.zone, first_kept=today()))], first, new=first)
    assert made.zone.kept("own", at, run) is None
    made.send(runs="keep")
    before, _ = made.during(lambda: remove(made.zone, "own", at))
    for found in made.outcomes(before, made.steps, made.partition()):
        kept = [name for name in before.maybe(made.partition()) if layout.KEPT.fullmatch(name)]
        assert ABSENT not in found or not kept, "they would be runs of a partition that is landed anew"
    assert found == {ABSENT}


@every_store
def test_runs_of_one_date_at_once_in_a_store_are_all_readable(race):  # noqa: F811
    assert [*race.run(lambda zone: None, keep=True).values()] == [None] * RACERS
    found = LandingZone.at(race.root)
    assert [*readable(found, "csv", AT).values()] == [2] * RACERS
    assert len(table_files(found.storage, layout.partition("csv", day(AT)))) == 2 * RACERS


@pytest.fixture
def stored(store, monkeypatch):
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    return LandingZone.at(store.url())


in_fakes3 = pytest.mark.parametrize("store", ["fakes3"], indirect=True)


@in_fakes3
def test_a_run_in_a_store_that_is_killed_at_any_step_leaves_all_earlier_ones(stored, store, monkeypatch):
    expected, steps, done = dict(zip(runs(stored, 1, 2), (1, 2), strict=True)), 0, False
    while not done:
        steps += 1
        with monkeypatch.context() as patch:
            begun = killed(patch, steps, ObjectStorage)
            with contextlib.suppress(Killed):
                runs(stored, 3)
        done = len(begun) < steps
        found = readable(LandingZone(stored.storage))
        assert found.items() >= expected.items()
        expected = found
    assert steps > 4
    first = next(iter(expected))
    [*removed(ZoneLeftovers(stored, older_than=0, first_kept=today()))]
    assert len(readable(stored)) == 1
    assert first not in str(stored.storage.walk("source="))
    runs(stored, 4)
    remove(stored, "postgres", day(D1))
    assert stored.storage.walk(layout.partition("postgres", day(D1))) == []


@in_fakes3
@pytest.mark.parametrize("seed", range(2))
def test_in_a_store_every_run_is_readable_that_has_to_be(stored, store, monkeypatch, seed):
    go_through(stored, monkeypatch, seed, ObjectStorage)


@in_fakes3
def test_messages_of_a_kept_run_that_come_again_neither_land_nor_remove_its_files(stored, store):
    staged = stored.work(run := new_run_id(), "postgres", day(D1)).file("table=a", ".csv")
    place, file = landed_file(staged, 1)
    first, = runs(stored, 5)
    manifest = stored.require("postgres", day(D1))
    mine = structs.replace(manifest, run_id=new_run_id(), tables=[structs.replace(manifest.tables[0], files=[file])])
    commit(stored, mine, {"a": [place]}, keep=True)
    last, = runs(stored, 6)
    with pytest.raises(ZoneError, match="is landed already"):
        commit(stored, structs.replace(mine, run_id=new_run_id()), {"a": [place]}, keep=True)
    stored.withdraw(run, "postgres", day(D1))
    assert readable(stored) == {first: 5, mine.run_id: 1, last: 6}


@in_fakes3
def test_a_rename_in_a_store_takes_all_runs_with_it(stored, store):
    three = dict(zip(runs(stored, 1, 2, 3), (1, 2, 3), strict=True))
    renamed(stored, "postgres", "shop")
    assert readable(stored, "shop") == three
    assert stored.storage.walk("source=postgres") == []


@in_fakes3
def test_a_copy_to_a_store_and_back_brings_all_runs(zone, stored, store, tmp_path):
    three = dict(zip(runs(zone, 1, 2, 3), (1, 2, 3), strict=True))
    assert copied(zone, stored) == COPIED
    assert readable(stored) == three
    back = LandingZone.at(tmp_path / "back")
    assert copied(stored, back) == COPIED
    assert readable(back) == three
    assert back.storage.walk("source=postgres") == zone.storage.walk("source=postgres")


def test_commands_list_show_verify_and_remove_the_runs_of_a_day(dates):  # noqa: F811
    kept = {"target": {"runs": "keep"}}
    dates.land(0, **kept)
    dates.load(0)
    for step in STEPS[1:]:
        dates.change(step)
        dates.land(1, **kept)
    dates.change("UPDATE items SET name = 'of the base', updated_at = '2024-03-01Z' WHERE id = 50")
    said = dates.land(0, **kept).text
    assert "cannot be loaded" not in said
    inside, (first, last) = dates.inside, map(number_of, (0, 1))
    listed = json.loads(inside.landing("list", "--json").stdout)
    assert [(one["extracted_at"], one["runs"], one["damaged"]) for one in listed] == [(first, 2, None), (last, 2, None)]
    assert re.search(r"run +runs +loaded\n", inside.landing("list").stdout)
    shown, = json.loads(inside.landing("show", last, "--json").stdout)["sources"]
    run = shown["earlier_runs"][0]["run_id"]
    assert f"{run}  " in inside.landing("show", last).stdout.split("earlier run")[1]
    again, = json.loads(inside.landing("show", last, "--run", run, "--json").stdout)["sources"]
    assert (again["run_id"], again["damaged"]) == (run, None)
    assert {one["table"]: one["rows"] for one in again["tables"]} == {"items": 5, "parts": 0}
    proved = json.loads(inside.landing("verify", last, "--run", run, "--json").stdout)
    assert [(one["compared"], one["equal"]) for one in proved] == [("files", True)] * 2
    refused = inside.landing("verify", last, "--run", "none", check=False)
    assert "Run none of 2024-01-02 is not there" in refused.text
    dates.load(1)
    assert dates.rows("public", 1, "items") == whole_items(dates)
    assert not dates.project.unproved(last)
    assert "it is needed. Nothing was dropped" in inside.landing("drop", first, "--yes", check=False).text
    assert "landed date" not in inside.landing("gc", "--keep-days", "0", "--keep-runs", "0").stdout
    assert inside.landing("gc", "--keep-runs", "0", "--yes").stdout.count("earlier run ") == 1, "a base is needed"
    dates.load(1, reload=True)
    assert not dates.project.unproved(last)
    path = next(dates.project.output.glob(f"source=postgres/extracted_at={last}/table=public-items/*.csv"))
    newest = dates.project.manifest("postgres", last)["run_id"]
    path.write_bytes(path.read_bytes()[::-1])
    assert "failed verification: postgres.items" in inside.landing("verify", last, "--run", newest, check=False).text


def number_of(number):
    return str(date(2024, 1, 1) + timedelta(days=number))


def whole_items(dates):  # noqa: F811
    """As the source had them before its last change."""
    dates.change("UPDATE items SET name = 'item 50', updated_at = '2024-01-01 00:00:50Z' WHERE id = 50")
    dates.land_whole(1)
    dates.load_whole(1)
    return dates.rows("whole", 1, "items")
