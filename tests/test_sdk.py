"""The Singer SDK's own standard tests, on all four plugins, against a real PostgreSQL and real files.

What a plugin of ours does not pass stands in EXCLUDED with its reason, and with what it does instead. And the contract
with the SDK: its private parts that we override or use, each by name and signature, and the only modules that do so.
"""

import ast
import inspect
import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import landing
import pytest
from in_process import SILENT, in_process
from landing.extract.csv.tap import TapCSV
from landing.extract.postgres.tap import TapPostgres
from landing.load.target import TargetPostgres
from landing.singer.validator import Validator
from landing.zone.target import TargetCSV
from singer_sdk import Sink, Stream, Tap, Target
from singer_sdk.helpers import _batch
from singer_sdk.plugin_base import PluginBase
from singer_sdk.sql import SQLConnector, SQLSink, SQLStream, SQLTap, SQLTarget
from singer_sdk.testing import SuiteConfig, get_tap_test_class, get_target_test_class
from singer_sdk.testing.runners import TapTestRunner, TargetTestRunner
from sqlalchemy.engine.default import DefaultDialect

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


ADAPTERS = {"singer/sdk.py", "load/stock.py"}
METHODS = {  # what they override or call: parameters
    PluginBase: {"_setup_signal_handlers": "self"},
    Stream: {"_write_state_message": "self", "_generate_schema_messages": "self",
             "_generate_record_messages": "self, record"},
    Sink: {"_validate_and_parse": "self, record", "_parse_timestamps_in_record": "self, record, schema, treatment",
           "_remove_sdc_metadata_from_schema": "self", "_remove_sdc_metadata_from_record": "self, record"},
    Target: {"_write_state_message": "self, state", "_handle_max_record_age": "self",
             **{f"_process_{type_}_message": "self, message_dict"
                for type_ in ("record", "activate_version", "batch", "state")}},
    DefaultDialect: {"do_commit": "self, dbapi_connection", "do_rollback": "self, dbapi_connection"},
    _batch.BatchConfig: {"__init__": "self, encoding, storage, batch_size"},
    _batch.StorageTarget: {"__init__": "self, root, prefix, params"},
    _batch.BaseBatchFileEncoding: {"__init__": "self, format, compression"},
}
ATTRIBUTES = {Stream: ["_tap"], Sink: ["_validator"], Target: ["_latest_state", "_sinks_active"]}  # set by __init__


def test_the_sdks_private_parts_that_we_rely_on_are_as_we_know_them():
    found = {class_: {name: ", ".join(inspect.signature(getattr(class_, name)).parameters) for name in methods}
             for class_, methods in METHODS.items()}
    assert found == METHODS
    for class_, names in ATTRIBUTES.items():
        assert {*names} <= {*class_.__init__.__code__.co_names}, class_
    for class_, name in ((SQLConnector, "_engine"), (Stream, "_singer_catalog_entry")):
        assert isinstance(inspect.getattr_static(class_, name), property)
    assert SQLConnector._cached_engine is None


def private_names():
    """Of the SDK's classes from which plugins, streams and sinks derive."""
    names = {name for class_ in (Tap, Target, Stream, Sink, SQLTap, SQLTarget, SQLStream, SQLSink)
             for name in (*dir(class_), *class_.__init__.__code__.co_names)}
    return {name for name in names | {"_engine", "_cached_engine"} if name[0] == "_" and name[1] != "_"}


def test_no_module_but_the_adapters_uses_a_private_part_of_the_sdk():
    package, private, found = Path(landing.__file__).parent, private_names(), {}
    assert len(private) > 50
    for path in (path for folder in ("singer", "extract", "zone", "load") for path in (package / folder).rglob("*.py")):
        tree = ast.walk(ast.parse(path.read_text()))
        used = {getattr(node, {ast.Attribute: "attr", ast.FunctionDef: "name"}.get(type(node), ""), None)
                for node in tree} & private
        if used or "singer_sdk.helpers._" in path.read_text():
            found[str(path.relative_to(package))] = used
    assert found.keys() == ADAPTERS, found
