"""after_landing: input files are moved once their rows are committed, or when they are refused; never landed twice."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Project
from landing.core.dates import today
from landing.core.errors import SettingError
from landing.extract.csv.declaration import Declaration
from landing.zone.gc import ZoneLeftovers
from landing.zone.landing_zone import LandingZone
from landing.zone.rename import ZoneRename

FIRST, NEXT, TODAY = "2024-03-01", "2024-03-02", str(today())
ENTITY = {"entity": "e", "path": "inbox/*.csv", "after_landing": {"done": "done", "failed": "failed"}}


class Inbox:
    """A project without servers, and the source csv of it."""

    def __init__(self, folder: Path) -> None:
        nowhere = SimpleNamespace(host="127.0.0.1", port=1, name="x", user="x", password="")
        self.folder, self.project = folder, Project(folder, nowhere, nowhere)
        self.variables: dict[str, str] = {}
        (folder / "inbox").mkdir()

    def put(self, **files: str) -> None:
        """Write files into inbox/; `__` in a name stands for `/`."""
        for name, content in files.items():
            path = self.folder / "inbox" / f"{name.replace('__', '/')}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def land(self, day: str, *files: dict, check: bool = True, tap: dict | None = None, **variables: str):
        """Land the files of a date."""
        return self.project.pipe(self.project.tap_csv(*(files or [ENTITY]), **(tap or {})), self.project.target_csv(),
                                 check, **{"DATESTAMP": day, **self.variables, **variables})

    def tap(self, day: str, *files: dict, **settings: object) -> str:
        """What the tap sends for a date."""
        return self.project.pipe(self.project.tap_csv(*(files or [ENTITY]), **settings), ["cat"], DATESTAMP=day).stdout

    def target(self, day: str, sent: str):
        """Have target-csv land it."""
        (self.folder / "sent").write_text(sent)
        return self.project.pipe(["cat", str(self.folder / "sent")], self.project.target_csv(), False, DATESTAMP=day)

    def files(self, *folders: str) -> list[str]:
        """What is in these folders, hidden files too."""
        return sorted(str(path.relative_to(self.folder)) for one in folders or ("inbox", "done", "failed")
                      for path in (self.folder / one).rglob("*") if not path.is_dir())

    def rows(self, day: str, entity: str = "e") -> list[str]:
        """The rows of a landed date."""
        table = next(one for one in self.manifest(day)["tables"] if one["name"] == entity)
        path = self.project.manifest_path("csv", day).parent / table["files"][0]["path"]
        return path.read_text().splitlines()[1:]

    def manifest(self, day: str) -> dict:
        return self.project.manifest("csv", day)

    def lists(self) -> list[Path]:
        """Lists of moves."""
        return sorted((self.folder / "output" / "_moves").rglob("*.json"))


@pytest.fixture
def inbox(tmp_path):
    return Inbox(tmp_path)


def test_landed_files_are_moved_after_the_commit_with_their_sub_folders(inbox):
    inbox.put(a="x\n1\n", b__a="x\n2\n", b__c__a="x\n3\n")
    entity = {**ENTITY, "path": "inbox/**/*.csv", "after_landing": {"done": "done/{date}"}}
    inbox.land(FIRST, entity)
    assert inbox.rows(FIRST) == ["1", "2", "3"]
    assert inbox.files() == [f"done/{FIRST}/{name}.csv" for name in ("a", "b/a", "b/c/a")]
    assert {one["file"]: one["done"] for one in inbox.manifest(FIRST)["inputs"]["e"]} == {
        f"inbox/{name}.csv": f"done/{FIRST}/{name}.csv" for name in ("a", "b/a", "b/c/a")}
    assert not inbox.lists()


def test_a_taken_name_gets_the_run_id_and_nothing_is_overwritten(inbox):
    for day, row in ((FIRST, "1"), (NEXT, "2")):
        inbox.put(a=f"x\n{row}\n")
        inbox.land(day)
    run_id = inbox.manifest(NEXT)["run_id"]
    assert inbox.files() == [f"done/a.{run_id}.csv", "done/a.csv"]
    assert (inbox.folder / "done/a.csv").read_text() == "x\n1\n"


def test_today_taken_again_has_its_moved_files_and_those_that_came_since(inbox):
    inbox.put(b="x\n2\n", c="x\n3\n")
    inbox.land(TODAY)
    first = inbox.manifest(TODAY)["tables"][0]["files"][0]
    assert "2 files that" in inbox.land(TODAY).text
    assert inbox.manifest(TODAY)["tables"][0]["files"][0]["sha256"] == first["sha256"]
    inbox.put(a="x\n1\n", c="x\n30\n")
    assert "1 files that" in inbox.land(TODAY).text
    assert inbox.rows(TODAY) == ["1", "2", "30"]
    assert inbox.files() == [f"done/{name}.csv" for name in ("a", "b", "c." + inbox.manifest(TODAY)["run_id"], "c")]


def test_a_past_date_taken_again_has_its_own_files_and_none_that_its_path_finds_today(inbox):
    entity = {**ENTITY, "metadata": True}
    inbox.put(a="x\n1\n")
    inbox.land(FIRST, entity)
    before = inbox.rows(FIRST)
    inbox.put(a="x\n5\n", b="x\n6\n")
    inbox.land(FIRST, entity, REEXTRACT="true")
    assert inbox.rows(FIRST) == before
    assert inbox.files() == ["done/a.csv", "inbox/a.csv", "inbox/b.csv"]
    dated = {**ENTITY, "path": "inbox/{date}.csv"}
    inbox.put(**{NEXT: "x\n1\n"})
    inbox.land(NEXT, dated)
    inbox.put(**{NEXT: "x\n2\n"})  # corrected
    inbox.land(NEXT, dated, REEXTRACT="true")
    assert inbox.rows(NEXT) == ["2"]
    (inbox.folder / "done/a.csv").unlink()
    refused = inbox.land(FIRST, entity, check=False, REEXTRACT="true").text
    assert f"inbox/a.csv is landed for {FIRST} and was moved to done/a.csv; it is not there" in refused
    assert inbox.rows(FIRST) == before


def settled(inbox):
    """Assert that the rows 1 to 3 are landed once each, and that their files are moved."""
    days = [day for day in (FIRST, NEXT) if inbox.project.manifest_path("csv", day).exists()]
    assert Counter(row for day in days for row in inbox.rows(day)) == Counter("123")
    assert inbox.files() == ["done/a.csv", "done/b.csv", "done/c.csv"]
    assert not inbox.lists()


def killed(inbox, day, program, log, at=None):
    """Kill a run at a boundary; see failpoints.py. Without one, what a run would write, in order."""
    fault = {"in": program, "log": str(log), **({} if at is None else {"at": at, "kill": "self"})}
    inbox.land(day, check=False, FAULT=json.dumps(fault))
    return [json.loads(line)["what"] for line in log.read_text().splitlines()]


def test_a_run_that_is_killed_anywhere_around_its_commit_lands_no_file_twice(tmp_path):
    """kill -9 at boundaries from the list of moves on; then another date's run, to which the same path applies."""
    first = Inbox(tmp_path / "all")
    first.put(a="x\n1\n", b="x\n2\n")
    found = killed(first, FIRST, "landing-target-csv", tmp_path / "log")
    commit = found.index("rename _manifest.json")
    steps = [found.index("rename <run>.json"), commit, commit + 1, found.index("fsync done"),
             found.index("unlink <run>.json"), found.index("unlink <run>.json") + 1]
    for number in steps:
        inbox = Inbox(tmp_path / str(number))
        inbox.put(a="x\n1\n", b="x\n2\n")
        killed(inbox, FIRST, "landing-target-csv", tmp_path / "log", number)
        inbox.put(c="x\n3\n")
        inbox.land(NEXT)
        assert inbox.project.manifest_path("csv", FIRST).exists() == (number > commit), found[number]
        settled(inbox)


def test_a_file_that_cannot_be_moved_is_committed_and_said_and_not_landed_again(inbox):
    (inbox.folder / "done").write_text("no folder")
    inbox.put(a="x\n1\n", b="x\n2\n")
    said = inbox.land(FIRST).text
    assert "inbox/a.csv is landed and committed for 2024-03-01, but cannot be moved to done/a.csv" in said
    assert "there is no new file for 2024-03-02" in inbox.land(NEXT, check=False).text
    inbox.put(c="x\n3\n")
    inbox.land(NEXT)
    assert (inbox.rows(FIRST), inbox.rows(NEXT)) == (["1", "2"], ["3"])
    inbox.land(FIRST, REEXTRACT="true")
    assert inbox.rows(FIRST) == ["1", "2"]
    (inbox.folder / "done").unlink()
    inbox.put(d="x\n4\n")
    inbox.land("2024-03-03")
    assert inbox.rows("2024-03-03") == ["4"]
    assert inbox.files() == [f"done/{name}.csv" for name in "abcd"]
    assert not inbox.lists()


def test_a_file_that_was_replaced_after_it_was_read_stays_and_is_said(inbox):
    inbox.put(a="x\n1\n", b="x\n2\n")
    sent = inbox.tap(FIRST)
    inbox.put(a="x\n9\n")
    assert "inbox/a.csv was replaced or removed after it was landed" in inbox.target(FIRST, sent).text
    assert inbox.rows(FIRST) == ["1", "2"]
    assert inbox.files() == ["done/b.csv", "inbox/a.csv"]


def test_of_two_dates_that_read_the_same_files_at_once_one_is_landed(inbox):
    inbox.put(a="x\n1\n")
    sent = {day: inbox.tap(day) for day in (FIRST, NEXT)}
    inbox.target(FIRST, sent[FIRST])
    refused = inbox.target(NEXT, sent[NEXT])
    assert refused.returncode
    assert "inbox/a.csv is no longer there for csv of 2024-03-02: another run may have landed it" in refused.text
    assert not inbox.project.manifest_path("csv", NEXT).exists()
    assert inbox.files() == ["done/a.csv"]


def test_a_refused_file_is_moved_with_its_reasons_and_all_others_stay(inbox):
    other = {"entity": "f", "path": "inbox/other.csv", "after_landing": {"done": "done"}}
    entity = {**ENTITY, "path": "inbox/[a-c].csv", "types": {"x": "integer"}}
    inbox.put(a="x\n1\n", b="x\n2\nz\n", other="y\n1\n")
    refused = inbox.land(FIRST, entity, other, check=False)
    assert refused.returncode
    assert "inbox/b.csv, line 3: column 'x': not a value of type integer" in refused.text
    assert "It is now failed/b.csv, and the reasons are in failed/b.csv.reasons.json" in refused.text
    assert inbox.files() == ["failed/b.csv", "failed/b.csv.reasons.json", "inbox/a.csv", "inbox/other.csv"]
    reasons = json.loads((inbox.folder / "failed/b.csv.reasons.json").read_text())
    assert {name: reasons[name] for name in ("source", "date", "entity", "file", "line", "column")} == {
        "source": "csv", "date": FIRST, "entity": "e", "file": "inbox/b.csv", "line": 3, "column": "x"}
    inbox.put(b="x\n2\n\nz\n")
    inbox.land(FIRST, entity, other, check=False)
    assert [name[:10] for name in inbox.files("failed") if name.endswith(".csv")] == ["failed/b.2", "failed/b.c"]
    inbox.land(FIRST, entity, other)  # what an engine does: it tries again
    assert (inbox.rows(FIRST), inbox.rows(FIRST, "f")) == (["1"], ["1"])


def test_files_with_other_columns_than_most_are_the_refused_ones(inbox):
    inbox.put(a="y\n1\n", b="x\n2\n", c="x\n3\n")
    assert "the columns differ" in inbox.land(FIRST, check=False).text
    assert inbox.files() == ["failed/a.csv", "failed/a.csv.reasons.json", "inbox/b.csv", "inbox/c.csv"]
    inbox.put(b="z\n2\n")
    assert "the columns differ" in inbox.land(FIRST, check=False).text
    assert inbox.files("inbox") == ["inbox/b.csv", "inbox/c.csv"]  # nobody can tell which is right


def test_a_file_without_a_declared_column_is_the_refused_one_wherever_it_comes_in_the_order(inbox):
    for bad in "ac":
        entity = {**ENTITY, "keys": ["id"]}
        inbox.put(**{bad: "x\n1\n", "b": "id,x\n2,2\n"})
        refused = inbox.land(FIRST, entity, check=False)
        assert f"inbox/{bad}.csv, line 1: the declaration names columns that do not exist (keys: 'id')" in refused.text
        assert inbox.files("inbox") == ["inbox/b.csv"]
    inbox.land(FIRST, entity)
    assert inbox.rows(FIRST) == ["2,2"]
    assert inbox.files("inbox", "done") == ["done/b.csv"]


def test_a_kill_while_a_refused_file_is_moved_leaves_it_in_one_place_with_its_reasons(tmp_path):
    first = Inbox(tmp_path / "all")
    first.put(a="x\n1,2\n")
    found = killed(first, FIRST, "landing-tap-csv", tmp_path / "log")
    reasons = found.index("rename a.csv.reasons.json")
    for number in (reasons - 1, reasons, reasons + 1, reasons + 2):
        inbox = Inbox(tmp_path / str(number))
        inbox.put(a="x\n1,2\n")
        killed(inbox, FIRST, "landing-tap-csv", tmp_path / "log", number)
        places = [name for name in inbox.files() if name.endswith("a.csv")]
        assert len(places) == 1
        inbox.land(FIRST, check=False)
        assert [name for name in inbox.files() if "/." not in name] == ["failed/a.csv", "failed/a.csv.reasons.json"]


def test_nothing_is_moved_by_a_discovery_for_another_target_for_a_frozen_date_or_if_it_is_not_selected(inbox):
    inbox.put(a="x\n1\n", b="x\n2,3\n")
    good, bad = {**ENTITY, "path": "inbox/a.csv"}, {**ENTITY, "entity": "f", "path": "inbox/b.csv"}
    tap = inbox.project.tap_csv(good, bad)
    catalog = inbox.project.pipe([*tap, "--discover"], ["cat"], DATESTAMP=FIRST).stdout
    assert [one["stream"] for one in json.loads(catalog)["streams"]] == ["e", "f"]
    inbox.tap(FIRST, good, use_batch=False)
    inbox.land(FIRST, {**good, "after_landing": {"failed": "failed"}})
    inbox.land(FIRST, good)
    (inbox.folder / "catalog.json").write_text(catalog.replace('"selected": true', '"selected": false'))
    deselected = [*tap, "--catalog", str(inbox.folder / "catalog.json")]
    assert "landing" in inbox.project.pipe(deselected, ["cat"], DATESTAMP=NEXT).stdout
    assert inbox.files() == ["inbox/a.csv", "inbox/b.csv"]


def test_a_header_that_is_refused_passes_the_discovery_and_is_moved_by_the_run(inbox):
    inbox.put(a="x,x\n1,2\n")
    meltano = (inbox.folder / "meltano.yml").read_text()
    declared = "      - {entity: e, path: inbox/a.csv, after_landing: {failed: failed}}\n"
    head, found, _ = meltano.partition("      files:\n")
    assert found
    rest = _.partition("\n  - name:")[2]
    (inbox.folder / "meltano.yml").write_text(f"{head}{found}{declared}  - name:{rest}")
    result = inbox.project.meltano("run", "tap-csv", "target-csv", check=False, MELTANO_ENVIRONMENT="extract")
    assert result.returncode
    assert inbox.files() == ["failed/a.csv", "failed/a.csv.reasons.json"], result.text


def test_two_entities_may_read_one_file_and_have_it_moved_to_one_place_only(inbox):
    inbox.put(a="x,y\n1,2\n")
    result = inbox.land(FIRST, ENTITY, {**ENTITY, "entity": "f", "after_landing": {"done": "other"}}, check=False)
    assert "entities 'e' and 'f' both read inbox/a.csv, and want it in done/a.csv and other/a.csv" in result.text
    entities = ENTITY, {**ENTITY, "entity": "f"}
    inbox.land(FIRST, *entities)
    inbox.land(FIRST, *entities, REEXTRACT="true")
    assert inbox.rows(FIRST) == inbox.rows(FIRST, "f") == ["1,2"]
    assert inbox.files() == ["done/a.csv"]


def test_a_list_of_moves_that_the_settings_do_not_want_is_not_carried_out(inbox):
    """Whoever can write to the landing zone cannot have other files moved."""
    (inbox.folder / "private.csv").write_text("secret")
    (inbox.folder / "done").write_text("no folder")
    inbox.put(a="x\n1\n")
    inbox.land(FIRST)
    path, = inbox.lists()
    listed = json.loads(path.read_text())
    version = listed["inputs"]["e"][0]["version"]
    stat = (inbox.folder / "private.csv").stat()
    (inbox.folder / "done").unlink()
    for file, done in (("private.csv", "done/a.csv"), ("inbox/a.csv", "elsewhere/a.csv"),
                       ("inbox/../private.csv", "done/a.csv"), ("inbox/a.csv", "done/../elsewhere/a.csv")):
        own = version if "a.csv" in file else f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}"
        listed["inputs"]["e"][0] |= {"file": file, "done": done, "version": own}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(listed))
        inbox.put(b="x\n2\n")
        assert "is not declared so any more" in inbox.land(NEXT, check=False, REEXTRACT="true").text
    assert (inbox.folder / "private.csv").exists()
    assert not (inbox.folder / "elsewhere").exists()


@pytest.mark.parametrize(("path", "after", "said"), [
    ("inbox/*.csv", {"done": "inbox"}, "looks for files"),
    ("inbox/**/*.csv", {"done": "inbox/done"}, "looks for files"),
    ("inbox/*/*.csv", {"done": "./inbox"}, "looks for files"),
    ("inbox/*/s*.csv", {"failed": "inbox/{date}"}, "looks for files"),
    ("inbox", {"done": "inbox/"}, "looks for files"),
    ("inbox/a.csv", {"done": "inbox"}, "looks for files"),
    ("az://in/x/*.csv", {"done": "az://in/x"}, "looks for files"),
    ("inbox/*.csv", {"done": "ftp://x/y"}, "is a URL that cannot be read"),
    ("inbox/*.csv", {"done": "az://"}, "is a URL that cannot be read"),
    ("inbox/*.csv", {"done": "x/{day}"}, "has the placeholder"),
    ("inbox/*.csv", {"done": "x/../inbox"}, "has `..` in it"),
    ("inbox/*.csv", {"done": ""}, "is not a folder"),
    ("inbox/*.csv", {}, "is not a map"),
    ("inbox/*.csv", "done", "is not a map"),
    ("inbox/*.csv", {"then": "x"}, "is not a map"),
    ("http://x/y.csv", None, "is a URL that cannot be read"),
])
def test_a_wrong_setting_is_refused_before_anything_is_read(path, after, said):
    with pytest.raises(SettingError, match=said):
        Declaration("e", path, after_landing=after)


@pytest.mark.parametrize(("path", "done"), [
    ("inbox", "inbox/done"), ("inbox/*.csv", "inbox/done"), ("inbox/{date}/*.csv", "inbox/{date}/done"),
    ("inbox/*/x.csv", "done"), ("az://in/*.csv", "done"), ("az://in/*.csv", "az://in/done/{date:%Y}"),
    ("inbox/*.csv", "s3://in/inbox"),
])
def test_a_folder_in_which_the_path_finds_nothing_is_accepted(path, done):
    Declaration("e", path, after_landing={"done": done})


def test_a_link_is_refused_where_files_are_moved(inbox):
    inbox.put(a="x\n1\n")
    (inbox.folder / "inbox/b.csv").symlink_to("/dev/null")
    (inbox.folder / "inbox/c.csv").symlink_to(inbox.folder / "meltano.yml")
    (inbox.folder / "inbox/b.csv").unlink()
    assert "inbox/c.csv is a link, and only files can be moved" in inbox.land(FIRST, check=False).text
    assert inbox.files() == ["inbox/a.csv", "inbox/c.csv"]


def test_gc_removes_the_list_of_a_run_that_did_not_commit_and_a_rename_keeps_one_of_a_run_that_did(inbox):
    (inbox.folder / "done").write_text("no folder")
    inbox.put(a="x\n1\n")
    inbox.land(FIRST)
    kept, = inbox.lists()
    dead = kept.with_name("20240101T000000Z-00000000.json")
    dead.write_text(kept.read_text().replace(kept.stem, dead.stem))
    zone = LandingZone.at(inbox.folder / "output")
    leftovers = [one for one in ZoneLeftovers(zone, older_than=0) if one.kind == "move list"]
    assert [one.what.rpartition("/")[2] for one in leftovers] == [dead.name]
    assert leftovers[0].remove()
    assert inbox.lists() == [kept]
    for change in ZoneRename(zone, "csv", "files").changes():
        change.apply()
    assert [path.parent.name for path in inbox.lists()] == ["files"]
    (inbox.folder / "done").unlink()
    inbox.put(b="x\n2\n")
    inbox.land(NEXT, tap={"source": "files"})
    assert inbox.files() == ["done/a.csv", "done/b.csv"]


def test_a_file_with_quarantined_rows_is_landed_and_moved(inbox):
    inbox.put(a="x\n1\n2,3\n")
    inbox.land(FIRST, {**ENTITY, "on_bad_rows": "quarantine"})
    assert inbox.rows(FIRST) == ["1"]
    assert inbox.files() == ["done/a.csv"]
