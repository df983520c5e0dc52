"""`landing show` tells all of a date, also of one that never came to be: every attempt at it, and how that ended."""

import json
import os
import signal
import subprocess
import time

import pytest
from conftest import CANARY

D1, D2 = "2024-01-20", "2024-01-21"


def shown(project, day):
    """Each source of a date."""
    result = project.landing("show", day, "--json")
    assert CANARY not in result.text
    return {one["source"]: one for one in json.loads(result.stdout)["sources"]}


def outcomes(project, day, source):
    return [(one["outcome"], one["error"]) for one in shown(project, day)[source]["attempts"]]


def test_show_has_tables_hashes_snapshot_and_loads(shop):
    shop.land(D1)
    shop.load(D1)
    manifest = shop.manifest("postgres", D1)
    postgres = shown(shop, D1)["postgres"]
    assert postgres["run_id"] == manifest["run_id"]
    assert postgres["snapshot"] == manifest["snapshot"]
    assert postgres["seconds"] == manifest["seconds"] > 0
    assert {one["table"]: one["sha256"] for one in postgres["tables"]} == {
        one["name"]: one["files"][0]["sha256"] for one in manifest["tables"]}
    assert {one["run_id"] for one in postgres["loaded"].values()} == {manifest["run_id"]}
    assert all(one["seconds"] > 0 for one in postgres["loaded"].values())
    text = shop.landing("show", D1).stdout
    for words in (f"postgres of {D1}: 2 tables, 140 rows", manifest["run_id"], manifest["snapshot"]["lsn"],
                  manifest["snapshot"]["server_version"], "this run", "csv of"):
        assert words in text
    assert next(iter(postgres["tables"]))["sha256"][:12] in text
    shop.land(D1, "postgres", REEXTRACT="true")
    assert manifest["run_id"] in shop.landing("show", D1).stdout.split("run started")[0]  # loaded from the older run
    alone = shop.landing("show", D1, TARGET_POSTGRES_PORT="1")
    assert "2 tables, 140 rows" in alone.stdout
    assert "Cannot read from the warehouse" in alone.stderr


def started(project, **variables):
    """A target-csv that waits for its tap."""
    target = subprocess.Popen(project.target_csv(), cwd=project.folder, stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              env=project.environment(MELTANO_PROJECT_ROOT=str(project.folder), **variables))
    log = project.output / "_attempts" / f"{variables['SOURCE']}@{variables['DATESTAMP']}.jsonl"
    end = time.monotonic() + 60
    before = log.stat().st_size if log.exists() else 0
    while not log.exists() or log.stat().st_size == before:
        assert time.monotonic() < end, "the target never began"
        time.sleep(0.02)
    return target


def test_every_attempt_is_there_with_its_outcome_and_a_killed_one_without(shop):
    target = started(shop, SOURCE="postgres", DATESTAMP=D1)
    assert outcomes(shop, D1, "postgres") == [("killed, or at work", None)]
    target.kill()
    target.communicate(timeout=30)
    assert f"postgres of {D1}: not landed" in shop.landing("show", D1).stdout
    target = started(shop, SOURCE="postgres", DATESTAMP=D1)
    os.kill(target.pid, signal.SIGTERM)
    target.wait(30)  # before communicate() closes its input, which would end it as well
    target.communicate(timeout=30)
    shop.source.run("CREATE VIEW zzz AS SELECT 1 / (order_id - 100) AS q FROM orders")
    assert shop.land(D1, "postgres", check=False).returncode
    shop.source.run("DROP VIEW zzz")
    shop.land(D1, "postgres")
    shop.land(D1, "postgres")
    killed, stopped, (outcome, error), *rest = outcomes(shop, D1, "postgres")
    assert [killed, stopped] == [("killed, or at work", None), ("failed", "Stopped by a signal")]
    assert outcome == "failed"
    assert error == "SourceError"  # the tap's, not what the target saw of it
    assert rest == [("committed", None), ("kept", None)]
    tried = shown(shop, D1)["postgres"]["attempts"]
    assert [one["landed"] for one in tried] == [None, None, None, shop.manifest("postgres", D1)["run_id"], None]
    assert all(one["started_at"] <= one["ended_at"] for one in tried[1:])
    assert shown(shop, D1)["csv"]["attempts"] == []
    text = shop.landing("show", D1).stdout
    assert f"failed ({error})" in text


def test_a_source_that_is_down_is_a_failed_attempt_at_a_date_that_is_not_there(shop):
    down = shop.tap_postgres(port=1)
    assert shop.pipe(down, shop.target_csv(), check=False, SOURCE="postgres", DATESTAMP=D2).returncode
    assert outcomes(shop, D2, "postgres") == [("failed", "UnreachableError")]
    # Through Meltano, which says which tap it is, also without SOURCE.
    run = shop.meltano("run", "extract_postgres", check=False, MELTANO_ENVIRONMENT="extract", DATESTAMP=D2,
                       SOURCE_POSTGRES_PORT="1")
    assert run.returncode
    assert outcomes(shop, D2, "postgres")[1:] == [("failed", "UnreachableError")]
    assert not shown(shop, D2)["postgres"]["landed"]
    for one in shown(shop, D2)["postgres"]["attempts"]:
        assert "port 1 failed: Connection refused" in one["message"]
    text = shop.landing("show", D2).stdout
    assert "failed (UnreachableError)" in text
    assert "port 1 failed: Connection refused" in text


@pytest.mark.parametrize("source", ["../x", "a/b", "..", ""])
def test_no_name_of_a_source_leads_out_of_the_log(project, source):
    target = project.pipe(["true"], project.target_csv(), check=False, SOURCE=source, DATESTAMP=D1)
    assert target.returncode
    assert not list(project.folder.rglob("*.jsonl"))


def test_lines_that_a_full_disk_cut_short_do_not_hide_the_others(shop):
    shop.land(D1, "csv")
    log = shop.output / "_attempts" / f"csv@{D1}.jsonl"
    log.write_text('{"run_id": "cu\n[]\n' + log.read_text() + '{"run_id"')
    assert outcomes(shop, D1, "csv") == [("committed", None)]


def test_list_and_show_go_on_after_a_damaged_manifest_and_end_with_an_error(shop):
    shop.land(D1)
    shop.land(D2, "csv")
    shop.manifest_path("csv", D1).write_text("{")
    strange = shop.manifest_path("csv", "someday")
    strange.parent.mkdir()
    strange.write_text("{}")
    result = shop.landing("list", check=False)
    assert result.returncode == 1
    assert result.stdout.count("\n") == 7
    assert f"Not landed: {D2} (postgres)." in result.stdout
    assert "damaged: " in result.stdout
    assert f"Damaged: csv of {D1}, csv of someday." in result.stderr
    lines = json.loads(shop.landing("list", "--json", check=False).stdout)
    assert [(one["source"], one["extracted_at"], bool(one["damaged"])) for one in lines] == [
        ("csv", D1, True), ("csv", D2, False), ("csv", "someday", True), ("postgres", D1, False)]
    result = shop.landing("show", D1, check=False)
    assert result.returncode == 1
    assert "csv of 2024-01-20: damaged." in result.stdout
    assert "postgres of 2024-01-20: 2 tables" in result.stdout
