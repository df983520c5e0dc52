"""The benchmark runs what it was asked for, says what it needs, and reports only what was measured."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import report
from contestants import EVERYBODY, QUICK
from data import lineitems
from disk import DiskError, check, needed
from figures import EXTRACT, LOAD_KEY, WHOLE, Figures
from goals import goals
from plan import Plan
from published import Published

PHASES = ("extract", "load", "load_key", "verify")


def bench(*words):
    return subprocess.run([sys.executable, ROOT / "bench/run.py", *words], capture_output=True, text=True, check=False)


def result(tmp_path, *words):
    """What a run wrote, and its lines."""
    done = bench(*words, "--name", "tiny", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = tmp_path.glob("*-tiny.json")
    return path, json.loads(path.read_text())["runs"], done.stdout.splitlines()


def test_each_measurement_is_one_line_with_the_share_that_is_done_and_the_report_renders_again(tmp_path):
    path, runs, lines = result(tmp_path, "--only", "psql1,psql2,pg_dump", "--rows", "3000", "--tables", "3",
                               "--rounds", "2")
    measured = [line for line in lines if " round " in line]
    assert len(measured) == len(runs) == len(lines) - 4  # three data sets, and what was written
    assert all(re.match(r"\d\d:\d\d:\d\d +\d+ ?% ", line) for line in measured)
    assert measured[-1].split("%")[0].endswith("100")
    found = {(run["contestant"], run["data"], run["phase"], run["round"]) for run in runs}
    assert {phase for who, data, phase, _ in found
            if (who, data) == ("psql, 2 connections", "lineitem_3000")} == {*PHASES}
    assert ("psql, 1 connection", "lineitem_3000", "load", 1) in found
    assert ("psql, 1 connection", "lineitem_3000", "load", 2) not in found  # one round is enough
    assert ("pg_dump, pg_restore", "small_3", "load_key", 1) in found
    written = path.with_suffix(".md").read_text()
    assert "## 3,000 rows: load with its key" in written
    assert "## 3 small tables" in written
    path.with_suffix(".md").unlink()
    assert bench("--render", path).returncode == 0
    assert path.with_suffix(".md").read_text() == written


def test_ours_is_run_in_a_project_of_its_own_and_only_the_phases_asked_for_are_measured(tmp_path):
    _, runs, _ = result(tmp_path, "--only", "landing", "--rows", "2000", "--phases", "extract,verify", "--rounds", "1",
                        "--no-startup")
    assert [(run["phase"], run["rows"]) for run in runs] == [("extract", 2000), ("verify", 2000)]
    assert {"landing-tap-postgres", "landing-target-csv"} <= runs[0]["peaks"].keys()
    assert "landing" in runs[1]["peaks"]


def test_a_command_that_takes_too_long_is_ended_and_named_and_the_run_fails(tmp_path):
    done = bench("--only", "psql1", "--rows", "200000", "--phases", "extract", "--limit", "0.05", "--no-startup",
                 "--out", tmp_path)
    assert done.returncode == 1
    assert "FAILED: not done after 0 s" in done.stdout
    assert done.stderr.strip() == "failed: psql, 1 connection"


def test_a_run_that_the_disk_does_not_hold_is_refused_before_it_begins_with_what_it_needs(tmp_path):
    done = bench("--only", "landing,psql2", "--rows", str(10**12), "--out", tmp_path)
    assert done.returncode == 1
    assert re.search(r"GB free, and the benchmark needs [\d,.]+ GB \(source [\d,.]+, source without key", done.stderr)
    assert not [*tmp_path.iterdir()]


def test_the_source_without_a_key_is_made_only_for_a_load_without_one(tmp_path):
    who = (EVERYBODY["landing"], EVERYBODY["psql2"])
    both, only = (Plan(who, phases, (60_000_000,), 1, named=True)
                  for phases in (PHASES, ("extract", "load_key", "verify")))
    assert both.without_key(lineitems(60_000_000))
    assert not only.without_key(lineitems(60_000_000))
    assert "source without key" not in needed(only)
    assert sum(needed(only).values()) < 0.8 * sum(needed(both).values())
    free = shutil.disk_usage(tmp_path).free
    rows = int(free / sum(needed(only).values()) * 60_000_000)
    with pytest.raises(DiskError):
        check(Plan(who, PHASES, (rows * 2,), 1, named=True), tmp_path)


def test_the_usual_run_has_everything_quick_and_nothing_slow():
    plan = Plan(tuple(EVERYBODY[name] for name in QUICK), PHASES, (1_000_000, 6_000_000), 3)
    steps = [*plan.steps()]
    assert {step.round for step in steps} == {1, 2, 3}
    names = {step.who.name for step in steps}
    assert {"landing", "landing, store", "landing, protected", "landing, CSV file", "DuckDB, CSV file"} <= names
    assert not names & {"sling", "dlt", "stock Singer, defaults", "pg_dump, pg_restore"}
    assert ("landing", "verify", 6_000_000) in {(step.who.name, step.phase, step.data.rows) for step in steps}


def made(*runs, sizes=(6_000_000,), contestants=("landing", "psql, 2 connections")):
    """A result of (contestant, data, phase, round, seconds)."""
    rows = {"empty": 0, "lineitem_6000000": 6_000_000, "lineitem_20000000": 20_000_000, "sales": 1_000_000}
    return {"date": "2026-01-01", "sizes": [*sizes], "rounds": 3, "machine": {"cores": 2},
            "contestants": dict.fromkeys(contestants, ""),
            "runs": [{"contestant": who, "data": data, "rows": rows[data], "phase": phase, "round": number,
                      "seconds": seconds, "cpu": 1.0, "server_cpu": 1.0, "others_cpu": 0.0, "bytes": 1,
                      "peaks": {"landing-tap-postgres": 100.0}} for who, data, phase, number, seconds in runs]}


def goal(found, part):
    [one] = [one for one in goals(Figures(found)) if part in one.what]
    return one


def test_ratios_are_taken_within_each_round_net_of_starting_up():
    data = "lineitem_6000000"
    found = made(*(("landing", "empty", "extract", number, 2.0) for number in (1, 2, 3)),
                 ("psql, 2 connections", "empty", "extract", 1, 0.0),
                 ("landing", data, "extract", 1, 12.0), ("landing", data, "extract", 2, 22.0),
                 ("landing", data, "extract", 3, 7.0), ("psql, 2 connections", data, "extract", 1, 10.0),
                 ("psql, 2 connections", data, "extract", 2, 19.0), ("psql, 2 connections", data, "extract", 3, 4.0))
    one = goal(found, "6,000,000 rows: extract, to psql")
    assert (one.net.middle, one.net.low, one.net.high, one.net.rounds) == (pytest.approx(0.95), 0.8, 1.0, 3)
    assert one.whole.middle == pytest.approx(10 / 12)
    assert one.met is True
    # A round without one of the phases has no extract and load.
    assert Figures(found).faster("landing", "psql, 2 connections", data, WHOLE) is None


def test_a_goal_that_was_not_run_says_so_and_one_that_is_missed_too():
    data = "lineitem_6000000"
    found = made(("landing", data, "load_key", 1, 20.0), ("psql, 2 connections", data, "load_key", 1, 19.0),
                 ("landing", data, "verify", 1, 12.5))
    assert goal(found, "6,000,000 rows: load with its key, to psql").met is False
    assert goal(found, "verify of 6,000,000 rows").met is False
    assert goal(found, "6,000,000 rows: extract, to psql").met is None
    assert goal(found, "CSV file of 1,000,000 rows: extract").met is None
    text = "\n".join(report.lines(Figures(found), ""))
    assert "| 20,000,000 rows: load with its key, to psql, 2 connections | - | - | - | - | ≥ 1 | not run |" in text
    assert "| verify of 6,000,000 rows | 12.5 s | - | - | - | ≤ 12 s | **no** |" in text


def test_nothing_is_net_where_starting_up_was_not_measured():
    data = "lineitem_6000000"
    found = Figures(made(("landing", data, "extract", 1, 20.0), ("psql, 2 connections", data, "extract", 1, 19.0)))
    assert found.rate("landing", data, EXTRACT) == pytest.approx(300_000)
    assert found.rate("landing", data, EXTRACT, net=True) is None
    assert found.faster("landing", "psql, 2 connections", data, EXTRACT, net=True) is None


def test_a_row_of_a_larger_table_is_compared_with_one_of_the_same_round():
    found = made(("landing", "lineitem_6000000", "extract", 1, 6.0),
                 ("landing", "lineitem_20000000", "extract", 1, 24.0), sizes=(6_000_000, 20_000_000))
    one = goal(found, "extract: time a row of a larger table, to 6,000,000 rows (20,000,000 rows)")
    assert one.value.middle == pytest.approx(1.2)
    assert one.met is False
    assert Figures(found).growth("landing", "lineitem_6000000", "lineitem_20000000", LOAD_KEY) is None
    assert Figures(found).rate("landing", "lineitem_6000000", EXTRACT) == pytest.approx(1_000_000)


def test_pages_quote_the_newest_result_with_enough_rounds(tmp_path):
    def saved(name, rounds, seconds, others=0.0):
        found = made(*(("landing", "lineitem_6000000", "extract", number, seconds) for number in range(rounds)))
        found["runs"][0]["others_cpu"] = others
        (tmp_path / f"{name}.json").write_text(json.dumps(found | {"date": name[:10]}))

    saved("2026-01-01", 3, 10.0)
    saved("2026-01-02", 3, 20.0)
    saved("2026-01-03-large", 1, 30.0)
    saved("2026-01-04-short", 3, 40.0)
    saved("2026-01-05", 3, 50.0, others=200.0)  # disturbed
    results = Published(tmp_path)
    assert results.best("lineitem_6000000", EXTRACT, "landing").name == "2026-01-02"
    assert results.best("lineitem_6000000", LOAD_KEY, "landing") is None
    assert results.source(results.results[0], "../") == "`bench/results/2026-01-05.json`"
