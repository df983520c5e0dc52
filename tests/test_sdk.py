"""The Singer SDK's own standard tests, on all four plugins, against a real PostgreSQL and real files.

What a plugin of ours does not pass stands in EXCLUDED with its reason, and with what it does instead.
"""

import io
import json
from contextlib import redirect_stdout

import pytest
from landing.extract.csv.tap import TapCSV
from landing.extract.postgres.tap import TapPostgres
from landing.load.target import TargetPostgres
from landing.singer.validator import Validator
from landing.zone.target import TargetCSV
from singer_sdk.testing import SuiteConfig, get_tap_test_class, get_target_test_class
from singer_sdk.testing.runners import TapTestRunner, TargetTestRunner
from targets import SILENT, in_process

CONFIG = SuiteConfig()
WHOLE_RUN = "test_a_whole_run_of_a_tap_is_as_the_suites_want_it"
DRY_RUN = "a dry run stops in the middle, and our only STATE is the proof of the whole: " + WHOLE_RUN
EXCLUDED = {
    "tap-postgres": {
        "tap_valid_final_state": DRY_RUN,
    },
    "tap-csv": {
        "tap_valid_final_state": DRY_RUN,
        "tap_stream_record_matches_stream_schema": "types are inferred over the whole file, so a catalog has none yet; "
                                                   "records match the SCHEMA that is sent: " + WHOLE_RUN,
    },
    "target-csv": {
        "target_schema_updates": "a landed table has one header: refused, as a changed SCHEMA after rows is",
        "target_encoded_string_data": "it has the character NUL, which no PostgreSQL can load: refused",
    },
    "target-postgres": {},
}


def outcomes(tests, runner):
    """Run every standard test of a class, each with every stream and property that it is for; what failed, and how."""
    failed, ran = {}, 0
    for name in (name for name in dir(tests) if name.startswith("test_")):
        for parameters in tests.params.get(name) or [None]:
            ran += 1
            try:
                with redirect_stdout(io.StringIO()):
                    getattr(tests, name)(CONFIG, None, runner(), *(parameters.values if parameters else ()))
            except (Exception, pytest.fail.Exception) as error:
                failed[name.removeprefix("test_")] = f"{type(error).__name__}: {error}"
    return failed, ran


def tap_outcomes(tap, config):
    runner = TapTestRunner(tap, config=config, suite_config=CONFIG)
    with redirect_stdout(io.StringIO()):
        runner.sync_all()
    return outcomes(get_tap_test_class(tap, config=config, suite_config=CONFIG, parse_env_config=False), lambda: runner)


def target_outcomes(target, config):
    return outcomes(get_target_test_class(target, config=config, suite_config=CONFIG),
                    lambda: TargetTestRunner(target, config=config))


def taps(project):
    """Each tap with settings that send RECORDs, which is all that the suites look at."""
    postgres = {**project.source.settings(), "filter_schemas": ["public"], "use_batch": False}
    files = [{"entity": "order_details", "path": "extract/order_details.csv", "keys": ["order_id", "product_id"]}]
    return {"postgres": (TapPostgres, postgres), "csv": (TapCSV, {"files": files, "use_batch": False})}


@pytest.fixture
def sdk(project):
    """Rows of every type that the suites have a test for."""
    project.source.run(
        "CREATE TABLE kinds (id integer PRIMARY KEY, at timestamptz, day date, yes boolean, big bigint, exact "
        "numeric(38, 10), doc jsonb, tags text[], note text NOT NULL);"
        "INSERT INTO kinds SELECT g, now(), current_date, g % 2 = 0, g, g / 3.0, '{\"a\": 1.5}', '{a,b}', 'n' "
        "FROM generate_series(1, 200) g; CREATE TABLE keyless (a integer); INSERT INTO keyless VALUES (1), (NULL)")
    with in_process(project, "2024-03-06"):
        yield project


@pytest.mark.parametrize("source", ["postgres", "csv"])
def test_our_taps_pass_the_standard_tests(sdk, source):
    failed, ran = tap_outcomes(*taps(sdk)[source])
    assert failed.keys() == EXCLUDED[f"tap-{source}"].keys(), failed
    assert ran >= 10


@pytest.mark.parametrize("source", ["postgres", "csv"])
def test_a_whole_run_of_a_tap_is_as_the_suites_want_it(sdk, source):
    tap, config = taps(sdk)[source]
    with redirect_stdout(io.StringIO()) as out:
        tap(config=config).sync_all()
    messages = [json.loads(line) for line in out.getvalue().splitlines()]
    schemas = {m["stream"]: Validator(m["schema"]) for m in messages if m["type"] == "SCHEMA"}
    for message in messages:
        if message["type"] == "RECORD":
            schemas[message["stream"]].validate(message["record"])
    assert messages[-1]["type"] == "STATE"
    assert "progress_markers" not in json.dumps(messages[-1])
    counted = {name: sent["rows"] for name, sent in messages[-1]["value"]["landing"]["streams"].items()}
    assert counted == {name: sum(m["type"] == "RECORD" and m["stream"] == name for m in messages) for name in counted}


def test_target_csv_passes_the_standard_tests(sdk, monkeypatch):
    monkeypatch.delenv("DATESTAMP")  # today may be landed again, test after test
    monkeypatch.setenv("ALLOW_FEWER_TABLES", "true")  # each of the tests sends other tables
    failed, ran = target_outcomes(TargetCSV, SILENT)
    assert failed.keys() == EXCLUDED["target-csv"].keys(), failed
    assert all("BadLineError" in said for said in failed.values())
    assert ran >= 16


def test_target_postgres_passes_the_standard_tests(sdk):
    settings = {**sdk.warehouse.settings(), "default_target_schema": "sdk", "sanitize_null_text_characters": True}
    failed, ran = target_outcomes(TargetPostgres, settings)
    assert failed.keys() == EXCLUDED["target-postgres"].keys(), failed
    assert ran >= 16
