"""Our targets called in this process: many inputs without a start of a plugin for each."""

import contextlib
import io
import json

import psycopg2
import pytest
from conftest import Project, databases
from landing.core.errors import LandingError
from landing.load.tap import TapLanding
from landing.load.target import TargetPostgres
from landing.singer.signals import SignalHandling
from landing.zone.target import TargetCSV

SILENT = {"trust_end_of_input": True, "source": "foreign"}  # target-csv takes what brings no proof


def encoded(messages):
    """Messages, or lines that are none, as a tap's output; bytes are one already."""
    if isinstance(messages, bytes):
        return messages
    lines = (m if isinstance(m, bytes) else m.encode() if isinstance(m, str) else json.dumps(m).encode()
             for m in messages)
    return b"\n".join(lines)


class Heard:
    """What became of an input: the sentence of a refusal or None, and the STATE that was passed on."""

    def __init__(self, target, messages):
        self.refusal = None
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                target.listen(messages if isinstance(messages, io.IOBase) else io.BytesIO(encoded(messages)))
            except (LandingError, psycopg2.Error) as error:  # what ends a plugin in a sentence; all else is a traceback
                self.refusal = str(error)
        self.states = out.getvalue().splitlines()


def hear_csv(messages, **settings):
    """Give messages to target-csv."""
    return Heard(TargetCSV(config={**SILENT, **settings}), messages)


def hear_postgres(project, messages, **settings):
    """Give messages to target-postgres."""
    settings = {"add_record_metadata": False, "activate_version": False, **settings}
    return Heard(TargetPostgres(config={**project.warehouse.settings(), **settings}), messages)


def load_landed(project, source, day, schema):
    """Load a landed source of a date into a schema."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        TapLanding(config={"from_landing": True, "sources": [source], "extracted_at": day}).sync_all()
    target = TargetPostgres(config={**project.warehouse.settings(), "default_target_schema": schema})
    return Heard(target, out.getvalue().encode())


def schema(stream, properties, keys=()):
    return {"type": "SCHEMA", "stream": stream, "key_properties": [*keys],
            "schema": {"type": "object", "properties": properties}}


def record(stream, **fields):
    return {"type": "RECORD", "stream": stream, "record": fields}


def state(**value):
    return {"type": "STATE", "value": value}


def relations(database):
    """All that is in a database besides PostgreSQL's own."""
    return database.run(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%%' ORDER BY 1, 2")


def left_in_staging(project):
    return [path for path in (project.output / "_staging").glob("*") if path.is_dir()]


@contextlib.contextmanager
def in_process(project, day):
    """This process as Meltano would start a plugin of the project for a date."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))
        patch.setenv("DATESTAMP", day)
        for name in ("MELTANO_ENVIRONMENT", "SOURCE", "EXTRACTED_AT", "SCHEMA", "REEXTRACT", "RELOAD"):
            patch.delenv(name, raising=False)
        patch.setattr(SignalHandling, "_setup_signal_handlers", lambda _: None)
        yield project


@contextlib.contextmanager
def serverless(folder, day):
    """This process as a plugin of a project that has no server; the folder of its landing zone."""
    (folder / "meltano.yml").write_text("jobs: []\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MELTANO_PROJECT_ROOT", str(folder))
        patch.setenv("DATESTAMP", day)
        for name in ("MELTANO_ENVIRONMENT", "SOURCE", "EXTRACTED_AT", "SCHEMA", "REEXTRACT", "LANDING_ROOT"):
            patch.delenv(name, raising=False)
        patch.setattr(SignalHandling, "_setup_signal_handlers", lambda _: None)
        yield folder / "output"


@contextlib.contextmanager
def foreign_project(server, folder, day):
    """A project for many inputs of other people's taps, in this process."""
    with databases(server) as make, in_process(Project(folder, make("source"), make("warehouse")), day) as project:
        yield project
