"""Plugins and commands in this process: no start of a process for each, and a fault can come at an exact place.

plugin_environment()   this process as Meltano would start a plugin for a date; serverless() without servers,
                       foreign_project() with a project of its own
InProcess              a project's taps, targets and `landing` command, by settings: the fixture `inside`
TargetRun, send_csv(), send_postgres()   a target, and the messages that it reads

The other two ways of tests: warm.py starts the real commands, forked from a process with all imports done, and dates.py
lands and loads rows by the library alone.
"""

import contextlib
import io
import json
import logging
from collections.abc import Mapping

import psycopg2
import pytest
from click.testing import CliRunner
from conftest import RUN_VARIABLES, Database, Project, Result, databases
from landing.cli import main
from landing.core.errors import LandingError
from landing.core.reporting import reported
from landing.extract.csv.tap import TapCSV
from landing.extract.postgres.tap import TapPostgres
from landing.load.tap import TapLanding
from landing.load.target import TargetPostgres
from landing.singer.signals import SignalHandling
from landing.zone.target import TargetCSV

ENTITY = {"entity": "order_details", "path": "extract/order_details.csv", "keys": ["order_id", "product_id"]}
SILENT = {"trust_end_of_input": True, "source": "foreign"}  # target-csv accepts input without a completion message


def encoded(messages):
    """A tap's output: messages, or invalid lines, one per line. Bytes are returned unchanged."""
    if isinstance(messages, bytes):
        return messages
    lines = (m if isinstance(m, bytes) else m.encode() if isinstance(m, str) else json.dumps(m).encode()
             for m in messages)
    return b"\n".join(lines)


class TargetRun:
    """A target's run over an input: `refusal` is its error message or None, `states` the STATE messages it wrote."""

    def __init__(self, target, messages):
        self.refusal = None
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                target.listen(messages if isinstance(messages, io.IOBase) else io.BytesIO(encoded(messages)))
            except (LandingError, psycopg2.Error) as error:  # anything else would end a plugin with a traceback
                self.refusal = str(error)
        self.states = out.getvalue().splitlines()


def send_csv(messages, **settings):
    """Run target-csv on messages."""
    return TargetRun(TargetCSV(config={**SILENT, **settings}), messages)


def send_postgres(project, messages, **settings):
    """Run target-postgres on messages."""
    settings = {"add_record_metadata": False, "activate_version": False, **settings}
    return TargetRun(TargetPostgres(config={**project.warehouse.settings(), **settings}), messages)


def load_landed(project, source, day, schema):
    """Load one source of a landed date into a schema."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        TapLanding(config={"from_landing": True, "sources": [source], "extracted_at": day}).sync_all()
    target = TargetPostgres(config={**project.warehouse.settings(), "default_target_schema": schema})
    return TargetRun(target, out.getvalue().encode())


def schema(stream, properties, keys=()):
    return {"type": "SCHEMA", "stream": stream, "key_properties": [*keys],
            "schema": {"type": "object", "properties": properties}}


def record(stream, **fields):
    return {"type": "RECORD", "stream": stream, "record": fields}


def state(**value):
    return {"type": "STATE", "value": value}


def relations(database):
    """All relations of a database except PostgreSQL's own."""
    return database.run(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%%' ORDER BY 1, 2")


def left_in_staging(project):
    return [path for path in (project.output / "_staging").glob("*") if path.is_dir()]


@contextlib.contextmanager
def plugin_environment(folder, **variables):
    """This process as Meltano would start a plugin of the project in `folder`. Signals stay with the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*RUN_VARIABLES, "REEXTRACT", "RELOAD"):
            patch.delenv(name, raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setenv("MELTANO_PROJECT_ROOT", str(folder))
        patch.setattr(SignalHandling, "handle_signals", lambda _: None)
        yield


@contextlib.contextmanager
def in_process(project, day):
    """This process as a plugin of the project for a date."""
    with plugin_environment(project.folder, DATESTAMP=day):
        yield project


@contextlib.contextmanager
def serverless(folder, day):
    """This process as a plugin of a project that has no server; the folder of its landing zone."""
    (folder / "meltano.yml").write_text("jobs: []\n")
    with plugin_environment(folder, DATESTAMP=day), pytest.MonkeyPatch.context() as patch:
        patch.delenv("LANDING_ROOT", raising=False)
        yield folder / "output"


@contextlib.contextmanager
def foreign_project(server, folder, day):
    """A project with two databases, for many inputs of third-party taps."""
    with databases(server) as make, in_process(Project(folder, make("source"), make("warehouse")), day) as project:
        yield project


class InProcess:
    """A project's plugins and commands. Unexpected exceptions reach the test."""

    def __init__(self, project: Project, monkeypatch, caplog) -> None:
        self.project, self.monkeypatch, self.caplog = project, monkeypatch, caplog

    def use(self, source: Database | None = None, warehouse: Database | None = None) -> None:
        """Replace the source or the warehouse."""
        self.project.source, self.project.warehouse = source or self.project.source, warehouse or self.project.warehouse
        if warehouse:
            self.monkeypatch.setenv("TARGET_POSTGRES_PORT", str(warehouse.port))
            self.monkeypatch.setenv("TARGET_POSTGRES_DB", warehouse.name)

    def extract(self, day: str, source: str = "postgres", check: bool = True, discovered=lambda: None,
                target: dict | None = None, by_keys: Mapping[str, str] | None = None, **settings: object) -> Result:
        """Run the tap, then the target.

        Args:
            day: The date.
            source: `csv`, or any other name of the database.
            check: Fail the test if either fails.
            discovered: Called after discovery.
            target: Settings of target-csv.
            by_keys: Replication keys of INCREMENTAL streams.
            settings: Of the tap.
        """
        def tap():
            running = (TapCSV(config={"files": [ENTITY], **settings}) if source == "csv" else
                       self.tap_postgres(by_keys or {}, source=source, **settings))
            assert running.streams is not None
            discovered()
            running.sync_all()

        variables = {"DATESTAMP": day, "REEXTRACT": "true"}
        sent = self._ended(tap, **variables)
        taken = self._ended(lambda: TargetCSV(config={"source": source, **(target or {})}).listen(
            io.StringIO(sent.stdout)), **variables)
        return _both(sent, taken, check)

    def tap_postgres(self, by_keys: Mapping[str, str], **settings: object) -> TapPostgres:
        """The tap, with these streams INCREMENTAL by their replication keys."""
        config = {**self.project.source.settings(), "filter_schemas": ["public"], **settings}
        if not by_keys:
            return TapPostgres(config=config)
        catalog = TapPostgres(config=config).catalog_dict
        for entry in catalog["streams"]:
            if entry["stream"] in by_keys:
                entry |= {"replication_method": "INCREMENTAL", "replication_key": by_keys[entry["stream"]]}
        return TapPostgres(config=config, catalog=catalog)

    def load(self, day: str, check: bool = True, reload: bool = False, batches: bool = True,
             **settings: object) -> Result:
        """Load all declared sources, tap first, then target."""
        sent = self._ended(lambda: TapLanding(config={"from_landing": True, "use_batch": batches}).sync_all(),
                           EXTRACTED_AT=day)
        taken = self._ended(lambda: TargetPostgres(
            config={**self.project.warehouse.settings(), "reload": reload, **settings}
        ).listen(io.StringIO(sent.stdout))) if sent.stdout else sent
        return _both(sent, taken, check)

    def landing(self, *arguments: str, check: bool = True) -> Result:
        """Run the `landing` command."""
        self.caplog.clear()
        ended = CliRunner().invoke(main.main, arguments)
        if ended.exception and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return _checked(Result(arguments, ended.exit_code, ended.output, self.caplog.text), check)

    def proved(self, day: str) -> bool:
        """Whether `landing verify` holds for a date."""
        return self.landing("verify", day, check=False).returncode == 0

    def _ended(self, work, **variables: str) -> Result:
        self.caplog.clear()
        said, status = io.StringIO(), 0
        with self.monkeypatch.context() as patch, contextlib.redirect_stdout(said):
            for name, value in variables.items():
                patch.setenv(name, value)
            try:
                with reported(logging.getLogger("inside")):
                    work()
            except SystemExit as end:
                status = end.code
        return Result([], status, said.getvalue(), self.caplog.text)


def _both(sent: Result, taken: Result, check: bool) -> Result:
    assert not sent.returncode or taken.returncode, "a target commits what its tap did not send to the end"
    words = sent.stderr + (taken.stderr if taken is not sent else "")
    return _checked(Result([], sent.returncode or taken.returncode, "", words), check)


def _checked(result: Result, check: bool) -> Result:
    assert "Traceback" not in result.text, result.text
    assert not check or result.returncode == 0, result.text
    return result
