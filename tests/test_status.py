"""`landing status` shows each source's dates truthfully, says what is late, and writes a page and metrics."""

import json
import os
import re
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser

import dates as dates_module
import pytest
from conftest import CANARY
from dates import Dates
from in_process import InProcess, plugin_environment
from landing.api import as_metrics, as_page, read_status
from landing.cli import status as command
from landing.load.load_history import LoadHistory
from landing.model.manifest import Manifest
from landing.model.naming import new_run_id
from landing.status import reading
from landing.status.reading import window
from landing.storage.local import LocalStorage
from landing.zone import run_log
from landing.zone.removal import remove
from landing.zone.run_log import RunLog
from prometheus_client.parser import text_string_to_metric_families

D0, D1, D2, D3, D4 = (f"2024-01-{day}" for day in range(18, 23))
A = {"id": "integer"}
ROWS = [[str(number)] for number in range(100)]


class Clock:
    """Now, for what lands and for what reads."""

    def __init__(self, monkeypatch):
        self.now = None
        for module in (dates_module, reading, run_log):
            monkeypatch.setattr(module, "now", lambda: self.now)
        self.set(f"{D4} 06:00")

    def set(self, text):
        self.now = datetime.fromisoformat(f"{text}:00+00:00")


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def zone(project, clock, monkeypatch, caplog):
    """A project of the sources postgres and csv; dates land at 01:00 of their day."""
    dates = Dates(project)
    with plugin_environment(project.folder):
        dates.inside = InProcess(project, monkeypatch, caplog)
        yield dates
    dates.close()


def land(zone, clock, day, source="postgres", rows=100, load=False):
    now, clock.now = clock.now, datetime.fromisoformat(f"{day} 01:00:00+00:00")
    zone.land(day, source, **{f"{source}_orders": (A, ROWS[:rows])})
    if load:
        zone.load(day, source)
    clock.now = now


def ran(zone, day, source="postgres", outcome=None, **more):
    """Leave the records of a run."""
    log = RunLog(zone.zone.storage, new_run_id(), date.fromisoformat(day))
    log.begin(source)
    if outcome:
        log.end(outcome, **more)


def shown(zone, *arguments, check=True):
    """What --json says, sources by name."""
    result = zone.inside.landing("status", "--json", *arguments, check=check)
    assert CANARY not in result.text
    value = json.loads(result.stdout[result.stdout.index("{"):])
    value["sources"] = {one["source"]: one for one in value["sources"]}
    return value


def states(zone, source, *arguments):
    """State of each shown date that has one."""
    found = shown(zone, *arguments)["sources"][source]["dates"]
    return {one["date"]: one["state"] for one in found if one["state"] != "nothing"}


def test_status_shows_rows_ages_and_change_of_each_source(zone, clock):
    land(zone, clock, D3, load=True)
    land(zone, clock, D4, rows=90)
    land(zone, clock, D4, "csv", rows=7)
    found = shown(zone)
    postgres, csv = found["sources"]["postgres"], found["sources"]["csv"]
    assert [postgres["landed"][name] for name in ("date", "tables", "rows", "seconds")] == [D4, 1, 90, 1]
    assert postgres["landed"]["bytes"] == zone.zone.manifest("postgres", date.fromisoformat(D4)).bytes
    assert postgres["landed_age_seconds"] == 5 * 3600
    assert postgres["change_rows"] == -10
    assert (postgres["loaded"]["date"], postgres["loaded_age_seconds"]) == (D3, 29 * 3600)
    assert postgres["state"] == "late"  # what is loaded is older than 26 hours
    assert csv["change_rows"] is None
    assert csv["late"] == ["never loaded"]
    assert states(zone, "postgres") == {D3: "loaded", D4: "landed"}
    text = zone.inside.landing("status").stdout
    assert re.search(rf"^postgres +late +{D4} +5 h +{D3} +29 h +90 +-10 ", text, re.M)
    assert "█● ▇○" in text
    assert f"Late: postgres: the newest loaded date, {D3}, is 29 h old (limit 26 h); csv: never loaded." in text


def test_a_past_date_of_files_that_are_of_their_dates_is_extracted_as_it_was(zone, clock):
    meltano = zone.inside.project.folder / "meltano.yml"
    meltano.write_text(meltano.read_text().replace("extract/order_details.csv", "inbox/sales_{date}.csv"))
    for day in (D2, D3, D4):
        land(zone, clock, day)
    land(zone, clock, D1, "csv")
    ran(zone, D2, "csv", outcome=run_log.FAILED, error="SourceError", message="No such file.")
    found = {one["date"]: one for one in shown(zone)["sources"]["csv"]["dates"]}
    assert (found[D2]["state"], found[D3]["state"]) == ("failed", "missing")
    for day in (D2, D3):
        assert found[day]["command"] == (
            f"MELTANO_ENVIRONMENT=extract SOURCE=csv DATESTAMP={day} meltano run extract_csv")
        assert "today's rows" not in found[day]["problem"]


def test_every_state_of_a_date_is_shown_as_it_is(zone, clock):
    days = [f"2024-01-{day}" for day in range(10, 23)]
    loaded, landed, reloaded, failed, failed_again, at_work, killed, damaged, missing, gone, kept, dropped, _ = days
    for day in (loaded, reloaded, gone, kept):
        land(zone, clock, day, load=True)
    for day in (landed, failed_again, damaged):
        land(zone, clock, day)
    land(zone, clock, missing, "csv")
    land(zone, clock, reloaded)
    remove(zone.zone, "postgres", date.fromisoformat(gone))
    clock.set(f"{killed} 02:00")
    ran(zone, killed)
    clock.set(f"{D4} 05:00")
    ran(zone, at_work)
    ran(zone, failed, outcome=run_log.FAILED, error="BadFileError", message="Line 3 is odd.\nCorrect the file.")
    clock.set(f"{D4} 05:30")
    ran(zone, failed_again, outcome=run_log.FAILED, error="Stopped by a signal")
    ran(zone, kept, outcome=run_log.KEPT)
    ran(zone, dropped, outcome=run_log.DROPPED)
    zone.zone.storage.root.joinpath("source=postgres", f"extracted_at={damaged}", "_manifest.json").write_text("{")
    clock.set(f"{D4} 06:00")
    assert states(zone, "postgres") == {
        loaded: "loaded", landed: "landed", reloaded: "stale", failed: "failed", failed_again: "landed",
        at_work: "unfinished", killed: "unfinished", damaged: "damaged", missing: "missing", gone: "loaded only",
        kept: "loaded", dropped: "dropped"}
    postgres = shown(zone)["sources"]["postgres"]
    said = {one["date"]: f"{one['problem']} {one['command']}" for one in postgres["dates"]}
    extract = "MELTANO_ENVIRONMENT=extract SOURCE=postgres DATESTAMP={} meltano run extract_postgres"
    assert f"landed is run {postgres['dates'][-11]['landed']['run_id']}." in said[reloaded]
    assert f"EXTRACTED_AT={reloaded} meltano run load_to_postgres" in said[reloaded]
    assert said[failed] == (f"The last run failed at {D4} 05:00 UTC: Line 3 is odd. Correct the file. That day is "
                            f"past: an extract now takes today's rows. {extract.format(failed)}")
    assert "Stopped by a signal. The landed date is unchanged. REEXTRACT=true" in said[failed_again]
    assert f"started at {D4} 05:00 UTC has no end record: at work, or killed." in said[at_work]
    assert "has no end record: killed." in said[killed]
    assert "is not a manifest that can be used" in said[damaged]
    assert said[missing] == ("Not landed. That day is past: an extract now takes today's rows. To load the date "
                             "without it, run: WITHOUT_SOURCES=postgres MELTANO_ENVIRONMENT=load SCHEMA=public "
                             f"EXTRACTED_AT={missing} meltano run load_to_postgres")
    for day in (loaded, landed, gone, kept, dropped):
        assert said[day] == "None None"
    assert postgres["last_error"]["error"] == "Stopped by a signal"
    text = zone.inside.landing("status").stdout
    assert all(symbol in text for symbol in "●○◐✕…!□◇⊘·")
    assert f"postgres of {failed}: failed. The last run failed" in text


def test_today_is_not_missing_a_source_before_its_end(zone, clock):
    land(zone, clock, D4)
    assert states(zone, "csv") == {D4: "due"}
    assert shown(zone)["sources"]["csv"]["dates"][-1]["problem"] is None
    clock.set("2024-01-23 00:00")
    assert states(zone, "csv") == {D4: "missing"}


def test_data_of_this_very_moment_is_zero_seconds_old(zone, clock):
    for source in ("postgres", "csv"):
        land(zone, clock, D4, source, load=True)
    clock.set(f"{D4} 01:00")
    assert shown(zone)["sources"]["csv"]["landed_age_seconds"] == 0
    said = zone.inside.landing("status", "--max-age", "0s").stdout
    assert re.search(rf"^csv +fresh +{D4} +0 min +{D4} +0 min", said, re.M)


def test_a_date_that_is_emptied_by_hand_is_not_shown_as_loaded(zone, clock):
    for day in (D2, D3, D4):
        land(zone, clock, day, load=True)
    zone.run(f'TRUNCATE public_history."postgres_orders@{D3}"')
    zone.run(f'DROP TABLE public_history."postgres_orders@{D4}"')
    assert states(zone, "postgres") == {D2: "loaded", D3: "landed", D4: "landed"}


@pytest.mark.parametrize(("age", "status", "said"), [
    ("26h", 0, ""), ("2d", 0, ""), ("301m", 0, ""), ("299m", 1, f"the newest landed date, {D4}, is 5 h old (limit 4 h"),
    ("1.5h", 1, "postgres: the newest landed"), ("26", 2, "not an age"), ("-1h", 2, ""), ("0x1h", 2, "26h, 90m or 2d")])
def test_max_age_exits_non_zero_and_names_what_is_too_old(zone, clock, age, status, said):
    for source in ("postgres", "csv"):
        land(zone, clock, D4, source, load=True)
    result = zone.inside.landing("status", "--max-age", age, check=False)
    assert result.returncode == status, result.text
    assert said in result.text
    assert zone.inside.landing("status").returncode == 0


def test_a_source_that_never_landed_is_late_and_one_that_is_no_longer_declared_is_not(zone, clock):
    land(zone, clock, D4, load=True)
    land(zone, clock, D1, "crm", load=True)
    said = zone.inside.landing("status", "--max-age", "26h", check=False)
    assert said.returncode == 1
    assert "Late: csv: never landed, never loaded." in said.stderr
    sources = shown(zone)["sources"]
    assert list(sources) == ["postgres", "csv", "crm"]
    assert (sources["crm"]["state"], sources["crm"]["late"]) == ("not declared", [])
    assert sources["crm"]["landed_age_seconds"] == 77 * 3600
    assert 'source="crm"' not in as_metrics(read_status())


def test_a_source_that_was_added_later_is_not_missing_before(zone, clock):
    land(zone, clock, D1)
    land(zone, clock, D2, "csv")
    land(zone, clock, D3, "csv")
    land(zone, clock, D3)
    assert states(zone, "csv") == {D2: "landed", D3: "landed"}
    assert states(zone, "postgres") == {D1: "landed", D2: "missing", D3: "landed"}


def test_a_source_that_a_load_left_out_is_not_missing(zone, clock):
    land(zone, clock, D1)
    for day in (D2, D3):
        land(zone, clock, day, "csv", load=True)
    assert states(zone, "postgres") == {D1: "landed", D2: "missing", D3: "missing"}
    history = LoadHistory(zone.connection.cursor(), "public_history")
    history.record_left_out(date.fromisoformat(D2), ["csv"], ["postgres"])
    assert states(zone, "postgres") == {D1: "landed", D3: "missing"}


def test_status_goes_on_without_the_warehouse_and_max_age_does_not_call_that_fresh(zone, clock, monkeypatch):
    for source in ("postgres", "csv"):
        land(zone, clock, D4, source, load=True)
    with monkeypatch.context() as patch:
        patch.setenv("TARGET_POSTGRES_PORT", "1")
        result = zone.inside.landing("status")
        assert "Cannot read from the warehouse what is loaded: " in result.text
        assert "landed; the warehouse was not read" in result.text
        assert states(zone, "postgres") == {D4: "unknown"}
        late = zone.inside.landing("status", "--max-age", "26h", check=False)
        assert late.returncode == 1
        assert "postgres: what is loaded is unknown" in late.text
        assert "The warehouse cannot be read: " in as_page(read_status())
        assert "landing_warehouse_up 0" in as_metrics(read_status())
        alone = zone.inside.landing("status", "--max-age", "26h", "--no-warehouse")
        assert "Cannot read" not in alone.text
        assert "landing_warehouse_up" not in as_metrics(read_status(warehouse=False))


def test_status_of_an_empty_landing_zone_says_that_nothing_is_landed(zone):
    said = zone.inside.landing("status").stdout
    assert "Late: postgres: never landed, never loaded; csv: never landed" in said
    assert "postgres is late" not in as_page(read_status())
    assert "2 of 2 sources are late" in as_page(read_status())


def test_the_newest_days_are_shown_or_those_before_the_newest_date():
    today = date(2024, 1, 31)

    def shown(count, *known):
        found = window(today, count, [{*map(date.fromisoformat, known)}] if known else [])
        return str(found[0]), str(found[-1]), len(found)

    assert shown(14) == ("2024-01-18", "2024-01-31", 14)
    assert shown(14, "2024-01-18") == ("2024-01-18", "2024-01-31", 14)
    assert shown(14, "2024-01-17", "2023-01-01") == ("2024-01-04", "2024-01-17", 14)
    assert shown(3, "2999-01-01") == ("2024-01-29", "2024-01-31", 3)
    assert shown(3, "0001-01-01") == ("0001-01-01", "0001-01-01", 1)


def test_a_landing_zone_of_many_dates_is_read_in_part(zone, clock, monkeypatch):
    first = date(2023, 12, 1)
    for number in range(53):
        land(zone, clock, str(first + timedelta(days=number)))
    read = []
    real = LocalStorage.read
    monkeypatch.setattr(LocalStorage, "read", lambda self, key, limit: read.append(key) or real(self, key, limit))
    found = shown(zone, "--days", "3")["sources"]["postgres"]
    assert len(found["dates"]) == 3
    assert {key.split("/")[1] for key in read} == {f"extracted_at={day}" for day in (D2, D3, D4)}
    assert len(read) < 10
    assert found["landed"]["date"] == D4


def test_the_newest_landed_date_counts_however_long_ago_it_was(zone, clock):
    land(zone, clock, D0, rows=5)
    land(zone, clock, D1, rows=8)
    clock.set("2024-06-01 00:00")
    land(zone, clock, "2024-05-31", "csv")
    found = shown(zone)["sources"]["postgres"]
    assert {one["state"] for one in found["dates"]} == {"nothing", "missing"}
    assert (found["landed"]["date"], found["change_rows"]) == (D1, 3)


def test_the_manifest_of_ten_thousand_tables_is_not_checked_in_full(zone, clock, monkeypatch):
    land(zone, clock, D4)
    path = zone.project.manifest_path("postgres", D4)
    table = json.loads(path.read_text())["tables"][0]
    tables = [{**table, "stream": f"t{number}", "files": [{**table["files"][0], "path": f"t{number}/x"}]}
              for number in range(10_000)]
    zone.project.write_manifest("postgres", D4, json.loads(path.read_text()) | {"tables": tables})
    monkeypatch.setattr(Manifest, "from_json", None)
    found = shown(zone)["sources"]["postgres"]
    assert (found["landed"]["tables"], found["landed"]["rows"]) == (10_000, 1_000_000)
    path.write_text(path.read_text()[:-10])
    assert states(zone, "postgres") == {D4: "damaged"}


def test_an_edited_manifest_is_shown_as_damaged(zone, clock):
    land(zone, clock, D3)
    land(zone, clock, D4)
    path = zone.project.manifest_path("postgres", D4)
    path.write_text(path.read_text().replace('"rows": 100', '"rows": 900'))
    found = shown(zone)["sources"]["postgres"]
    assert found["dates"][-1]["state"] == "damaged"
    assert found["landed"]["date"] == D3


class Page(HTMLParser):
    """Fails on elements that are not closed; collects text and attributes."""

    VOID = ("meta", "link")

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.attributes, self.tags = [], "", [], set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


HOSTILE = ('<script>alert("1")</script>', "a'b\"&amp;", "two\nlines\u202e", "$name ${rows}")


def test_the_page_is_one_file_that_fetches_nothing_and_escapes_every_name(zone, clock):
    land(zone, clock, D4)
    ran(zone, D4, "csv", run_log.FAILED, error=HOSTILE[0])
    for name in HOSTILE:
        (zone.project.output / f"source={name.replace('/', '%')}" / f"extracted_at={D4}").mkdir(parents=True)
        (zone.project.output / f"source={name.replace('/', '%')}" / f"extracted_at={D4}" / "_manifest.json").touch()
    os.makedirs(bytes(zone.project.output) + b"/source=\xff\xfe/extracted_at=2024-01-22/_manifest.json")
    file = zone.project.folder / "status.html"
    zone.inside.landing("status", "--html", str(file))
    names = [one["source"] for one in json.loads(zone.inside.landing("status", "--json").stdout)["sources"]]
    assert names[-1] == "\udcff\udcfe"
    page = Page(file.read_text())
    assert page.tags.isdisjoint({"script", "iframe", "img", "object", "base", "form"})
    assert [value for name, value in page.attributes if name in ("src", "href") and not value.startswith("data:")] == []
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "@import" not in file.read_text()
    for text in ('<script>alert("1")<%script>', "a'b\"&amp;", r"two\nlines\u202e", "$name ${rows}", r"\udcff\udcfe"):
        assert text in page.text
    assert "The last run failed" in page.text
    assert ("name", "viewport") in page.attributes
    assert "prefers-color-scheme: dark" in page.text
    assert sorted(path.name for path in zone.project.folder.iterdir() if "status" in path.name) == ["status.html"]


def test_metrics_are_what_a_prometheus_parser_reads(zone, clock):
    land(zone, clock, D3, load=True)
    land(zone, clock, D4, rows=90)
    ran(zone, D4, "csv", run_log.FAILED, error="SourceError")
    ran(zone, D4, outcome=run_log.COMMITTED)
    file = zone.project.folder / "landing.prom"
    zone.inside.landing("status", "--metrics", str(file))
    found = {}
    for family in text_string_to_metric_families(file.read_text()):
        assert family.type == "gauge"
        assert family.documentation.endswith(".")
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    postgres, csv = ("source", "postgres"), ("source", "csv")
    landed = zone.zone.manifest("postgres", date.fromisoformat(D4))
    assert found["landing_rows", postgres] == 90
    assert found["landing_bytes", postgres] == landed.bytes
    assert found["landing_extract_seconds", postgres] == 1
    assert found["landing_age_seconds", postgres] == 5 * 3600
    assert found["landing_loaded_age_seconds", postgres] == 29 * 3600
    assert found["landing_last_success_timestamp_seconds", postgres] == landed.taken_at.timestamp()
    assert found["landing_last_run", ("outcome", "committed"), postgres] == 1
    assert found["landing_last_run", ("outcome", "failed"), postgres] == 0
    assert found["landing_last_run", ("outcome", "failed"), csv] == 1
    assert found["landing_age_seconds", csv] == float("inf")
    assert found["landing_last_success_timestamp_seconds", csv] == 0
    assert ("landing_rows", csv) not in found
    assert found["landing_problems", csv] == 2  # the failed run, and on the day before it is missing
    assert found["landing_warehouse_up",] == 1
    assert found["landing_status_timestamp_seconds",] == clock.now.timestamp()


def test_a_label_is_escaped_as_prometheus_reads_it():
    from landing.status.metrics import _metric

    name = 'a\\b"c\nd\\n'
    text = "\n".join(_metric("m", "About.", [({"source": name}, 1)])) + "\n"
    sample, = next(text_string_to_metric_families(text)).samples
    assert sample.labels == {"source": name}


@pytest.mark.parametrize("option", ["--html", "--metrics"])
def test_files_are_replaced_at_once_or_stay_as_they_were(zone, tmp_path_factory, monkeypatch, option):
    folder = tmp_path_factory.mktemp("served")
    file = folder / "file"
    file.write_text("old")
    reader = file.open()
    zone.inside.landing("status", option, str(file))
    assert reader.read() == "old"
    assert len(written := file.read_text()) > 100
    assert file.stat().st_mode & 0o777 == 0o666 & ~_umask()

    def full(*_):
        assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["file"]
        raise OSError(28, "No space left on device", "file")

    monkeypatch.setattr(os, "replace", full)
    failed = zone.inside.landing("status", option, str(file), check=False)
    assert failed.returncode == 1
    assert "No space left on device" in failed.text
    assert file.read_text() == written
    assert [path.name for path in folder.iterdir()] == ["file"]
    monkeypatch.undo()


def _umask():
    os.umask(found := os.umask(0))
    return found


def test_a_folder_that_does_not_exist_is_named(zone):
    failed = zone.inside.landing("status", "--metrics", "no/such/folder/x.prom", check=False)
    assert failed.returncode == 1
    assert "no/such/folder/" in failed.text
    assert "No such file or directory" in failed.text


def test_a_run_log_with_odd_lines_stops_nothing(zone, clock):
    land(zone, clock, D4)
    path = zone.project.output / "_attempts" / f"postgres@{D4}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text('[]\n"x"\n{"run_id": 1}\n{"run_id": "r", "started_at": 5, "outcome": {"a": 1}}\n{"run_id": "s", '
                    '"started_at": "2024-01-22T05:00:00", "outcome": "failed", "error": ["<b>"]}\n{"run_id": "t"')
    found = read_status()
    assert "landing_rows" in as_metrics(found)
    assert Page(as_page(found))
    assert command.as_text(found)


def test_a_notebook_reads_the_status_by_the_api(zone, clock):
    land(zone, clock, D4, load=True)
    found = read_status(days=3, max_age=timedelta(hours=4))
    assert [source.name for source in found.sources] == ["postgres", "csv"]
    assert found.sources[0].landed.rows == 100
    assert found.sources[0].landed_age == timedelta(hours=5)
    assert found.late[0].startswith(f"postgres: the newest landed date, {D4}, is 5 h old")
    assert found.now.tzinfo == UTC


def test_status_of_real_runs(shop):
    shop.land(D1)
    shop.load(D1)
    shop.land(D2, "postgres")
    said = shop.landing("status", "--html", "s.html", "--metrics", "s.prom", "--max-age", "1h", check=False)
    assert said.returncode == 1, "dates of long ago are not fresh, whenever they were extracted"
    assert re.search(rf"^postgres +late +{D2} .* {D1} .* committed$", said.stdout, re.M)
    assert f"csv of {D2}: missing." in said.stdout
    assert Page((shop.folder / "s.html").read_text())
    assert 'landing_rows{source="postgres"} 140' in (shop.folder / "s.prom").read_text()
    assert CANARY not in said.text + (shop.folder / "s.html").read_text()
