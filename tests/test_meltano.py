"""What `meltano run` itself does around our plugins: connections, files and runs of its own."""

import json
import os
import socket
import subprocess
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest
import warm

DAY, NEXT = "2024-01-20", "2024-01-21"
ENTITIES = [{"entity": "order_details", "path": "extract/order_details.csv", "keys": ["order_id", "product_id"]},
            {"entity": "second", "path": "extract/second.csv", "keys": ["id"]}]
PAIRS = int(os.environ.get("LANDING_PAIRS", "1"))


def test_no_command_asks_anybody_for_newer_versions(shop, tmp_path_factory, monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as recorder:
        recorder.setblocking(False)
        proxy = f"http://127.0.0.1:{recorder.getsockname()[1]}"
        outside = {name: proxy for kind in ("http_proxy", "https_proxy", "all_proxy") for name in (kind, kind.upper())}
        # The answer of the last time would be kept for a day.
        variables = {**outside, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
        shop.land(DAY, "postgres")
        shop.meltano("run", "extract_csv", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY, **variables)
        shop.meltano("run", "load_to_postgres", MELTANO_ENVIRONMENT="load", EXTRACTED_AT=DAY, **variables)
        shop.meltano("invoke", "landing", "list", **variables)
        with pytest.raises(BlockingIOError):
            recorder.accept()


def at_once(project, *runs):
    """`meltano run`s that start together: exit status and output of each."""
    with ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(
            [str(project.folder / ".venv/bin/meltano"), "run", job], cwd=project.folder,
            env=project.environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )) for job, variables in runs]
        return [(process.communicate(timeout=300)[0], process.returncode) for process in processes]


def extract(source, day, **more):
    return f"extract_{source}", {"MELTANO_ENVIRONMENT": "extract", "DATESTAMP": day, **more}


def load(day, **more):
    return "load_to_postgres", {"MELTANO_ENVIRONMENT": "load", "EXTRACTED_AT": day, **more}


@pytest.fixture
def two_files(shop):
    """A project that declares two entities."""
    shop.csv("second.csv", "id\n1\n2\n")
    config = shop.folder / "meltano.yml"
    config.write_text(config.read_text().replace(
        "      files:\n", "      files:\n      - {entity: second, path: extract/second.csv, keys: [id]}\n", 1))
    shop.land(DAY, "postgres")
    shop.pipe(shop.tap_csv(*ENTITIES), shop.target_csv(), DATESTAMP=DAY, SOURCE="csv")
    shop.meltano("invoke", "landing", "list")  # the first command makes Meltano's database, and two at once cannot
    return shop


def whole(project, source, day):
    tables = {"csv": ["order_details", "second"], "postgres": ["notes", "orders"]}[source]
    return [table["name"] for table in project.manifest(source, day)["tables"]] == tables


def test_an_extract_and_a_load_at_once_are_each_whole(two_files):
    for number in range(PAIRS):
        day = f"2024-02-{number + 1:02}"
        for said, status in at_once(two_files, extract("csv", day), load(DAY), extract("postgres", day)):
            assert status == 0, said
        assert whole(two_files, "csv", day)
        assert whole(two_files, "postgres", day)
        assert two_files.rows("second") == [("(1)",), ("(2)",)]
        two_files.warehouse.run("DROP SCHEMA public_history CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public")


def test_two_dates_at_once_are_each_whole_with_folders_of_their_own(two_files, tmp_path_factory):
    for number in range(PAIRS):
        days = [f"2024-03-{number + 1:02}", f"2024-04-{number + 1:02}"]
        own = {day: {"MELTANO_SYS_DIR_ROOT": str(tmp_path_factory.mktemp("system"))} for day in days}
        for said, status in at_once(two_files, *(extract("csv", day, **own[day]) for day in days)):
            assert status == 0, said
        assert all(whole(two_files, "csv", day) for day in days)
        for day in days:
            two_files.land(day, "postgres")
        for said, status in at_once(two_files, *(load(day, **own[day]) for day in days)):
            assert status == 0, said
        assert not two_files.unproved(*days)


JOBS = ("extract_postgres", "extract_csv", "load_to_postgres")


def test_one_run_extracts_all_sources_and_loads_the_date(shop):
    shop.meltano("run", *JOBS, DATESTAMP=DAY, EXTRACTED_AT=DAY)
    assert not shop.unproved(DAY)
    assert shop.rows("order_details")


def test_one_run_whose_extract_fails_loads_nothing(shop):
    shop.csv("order_details.csv", "order_id,product_id\n1,1,1\n")
    done = shop.meltano("run", *JOBS, check=False, DATESTAMP=DAY, EXTRACTED_AT=DAY)
    assert done.returncode
    assert [shop.manifest_path(source, DAY).exists() for source in ("postgres", "csv")] == [True, False]
    assert not shop.warehouse.run("SELECT 1 FROM pg_namespace WHERE nspname = 'public_history'")


class MeltanoFiles:
    """A tap as Meltano starts it, from the run folder that all its runs share."""

    def __init__(self, project, tap):
        self.project, self.command, self.source = project, [tap[0]], Path(tap[0]).name.removeprefix("landing-tap-")
        self.folder = project.folder / f".meltano/run/{Path(tap[0]).name.removeprefix('landing-')}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = json.loads(Path(tap[2]).read_text())
        self.catalog = self.folder / "tap.properties.json"

    def run(self):
        """Settings of one more run."""
        path = self.folder / f"tap.{uuid.uuid4()}.config.json"
        path.write_text(json.dumps(self.settings))
        return [*self.command, "--config", str(path)]

    def discover(self, run):
        variables = {"DATESTAMP": DAY, "SOURCE": self.source}
        done = self.project._run([*run, "--discover"], True, variables, warm.Plugin)
        self.catalog.write_text(done.stdout)

    def sync(self, run, *more, **variables):
        return self.project.pipe([*run, *more], self.project.target_csv(), False, DATESTAMP=DAY, SOURCE=self.source,
                                 **variables)


@pytest.mark.parametrize("name", ["csv", "postgres"])
def test_a_catalog_of_another_run_is_refused_and_nothing_is_landed(shop, name):
    meltano = MeltanoFiles(shop, shop.tap_csv() if name == "csv" else shop.tap_postgres())
    own, other = meltano.run(), meltano.run()
    given = ["--catalog", str(meltano.catalog)]
    meltano.discover(other)
    content = meltano.catalog.read_text()
    for change, arguments, said in (
        (lambda: None, given, "is the catalog of another run"),
        (lambda: meltano.catalog.write_text(content[:100]), given, "is not valid JSON"),
        (meltano.catalog.unlink, given, "is gone"),
        (lambda: None, [], "passed no catalog to this run"),
    ):
        change()
        result = meltano.sync(own, *arguments)
        assert result.returncode != 0
        assert said in result.text
        assert "MELTANO_SYS_DIR_ROOT" in result.text
        assert "Traceback" not in result.text
    assert not shop.landed()
    meltano.discover(other)  # a catalog that somebody saved and names in meltano.yml
    assert meltano.sync(own, *given, MELTANO_EXTRACT__CATALOG="saved.json").returncode == 0
    meltano.discover(own)
    assert meltano.sync(own, *given, REEXTRACT="true").returncode == 0
    assert shop.landed()


@pytest.mark.parametrize("name", ["csv", "postgres"])
def test_a_plugin_that_is_only_asked_takes_no_notice_of_the_catalog_of_the_last_run(shop, name):
    meltano = MeltanoFiles(shop, shop.tap_csv() if name == "csv" else shop.tap_postgres())
    meltano.discover(meltano.run())
    given = [*meltano.run(), "--catalog", str(meltano.catalog)]
    variables = {"DATESTAMP": DAY, "SOURCE": meltano.source}
    for asked, said in (("--about", "Description"), ("--test", '"BATCH"'), ("--test=schema", '"SCHEMA"')):
        done = shop._run([*given, asked], True, variables, warm.Plugin)
        assert (done.returncode, said in done.stdout) == (0, True), done.text
    meltano.catalog.write_text("{")
    assert shop._run([*given, "--test"], True, variables, warm.Plugin).returncode == 0
    own = {**variables, "MELTANO_EXTRACT__CATALOG": "saved.json"}
    assert "is not valid JSON" in shop._run([*given, "--test"], False, own, warm.Plugin).text
    assert not shop.landed()


def test_a_catalog_that_lacks_a_declared_entity_is_refused_and_a_deselected_one_is_not(two_files):
    meltano = MeltanoFiles(two_files, two_files.tap_csv(*ENTITIES))
    before = two_files.landed()
    run = meltano.run()
    meltano.discover(run)
    catalog = json.loads(meltano.catalog.read_text())
    second, = (stream for stream in catalog["streams"] if stream["tap_stream_id"] == "second")
    less = {**catalog, "streams": [stream for stream in catalog["streams"] if stream is not second]}
    meltano.catalog.write_text(json.dumps(less))
    given = ["--catalog", str(meltano.catalog)]
    refused = meltano.sync(run, *given, REEXTRACT="true")
    assert refused.returncode != 0
    assert "The catalog lacks second, which tap-csv declares" in refused.text
    assert two_files.landed() == before
    loads = [two_files.tap_landed()[0], "--config", two_files.config(from_landing=True), *given]
    refused = two_files.pipe(loads, two_files.target_postgres(), False, EXTRACTED_AT=DAY)
    assert refused.returncode != 0
    assert "which the landed date has" in refused.text


def test_the_public_commands_of_a_load_are_the_same(shop):
    shop.land(DAY)
    for number, words in enumerate((["load_to_postgres"], ["tap-csv", "target-postgres"])):
        shop.meltano("run", *words, MELTANO_ENVIRONMENT="load", EXTRACTED_AT=DAY, SCHEMA=f"s{number}",
                     TARGET_POSTGRES_DEFAULT_TARGET_SCHEMA=f"s{number}")
    loaded = [shop.warehouse.run(f"SELECT source, table_name, rows, sha256, run_id FROM s{number}_history._loads "
                                 "ORDER BY 1, 2") for number in range(2)]
    assert len(loaded[0]) == 3
    assert loaded[0] == loaded[1]
