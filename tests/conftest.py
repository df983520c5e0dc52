"""A project of its own for every test: the real meltano.yml, fresh databases on a real PostgreSQL, an empty landing.

`project.meltano(…)` is a real `meltano run`. `project.land(…)` and `project.load(…)` run the same two plugins through
the same pipe without Meltano around them, started by warm.py, which spares most of the time.

With LEAST_PRIVILEGE=1 plugins and commands connect as the roles of the project's SQL files (ROLES); what a test itself
does in a database it does as an administrator all the same.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import in_memory
import psycopg2
import pytest
import warm
from csv_entities import convert  # noqa: F401, a fixture
from landed import Folder, Landed
from landing.model.manifest import sealed
from landing.postgres.connect import connect
from landing.verify.reconcile import Reconciliation, Verification
from landing.zone.landing_zone import LandingZone
from protected import people, people_files  # noqa: F401, fixtures
from psycopg2 import sql
from servers import Server, is_reachable
from stores import store, stores  # noqa: F401, fixtures

in_memory.use_memory()

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / "plugins" / ".venv" / "bin"
SHARED = ROOT.parent / "shared"
NORTHWIND = SHARED / "data" / "northwind"
CANARY = "kx7canary"
# A hard one, looked for in all that is written; however that escapes the rest, the canary stays as it is.
PASSWORD = CANARY + " p%w@d'\"$x$HOME${#\\n:/?&=é 漢 "
ROLES = {"source": ("source_reader", "extract/roles/source_reader.sql"),
         "warehouse": ("warehouse_loader", "load/roles/warehouse_loader.sql")}
# What says which run this is; a test sets what it needs.
RUN_VARIABLES = ("MELTANO_ENVIRONMENT", "SOURCE", "DATESTAMP", "EXTRACTED_AT", "SCHEMA")
numbers = itertools.count()


class Result(subprocess.CompletedProcess):
    """A finished command; `text` is all that it said."""

    @property
    def text(self) -> str:
        return self.stdout + self.stderr


class Database:
    """A database with an autocommit connection to it."""

    def __init__(self, server: Server, name: str, user: str, password: str) -> None:
        self.host, self.port, self.name, self.user, self.password = "127.0.0.1", server.port, name, user, password
        self._administrator = user
        self.connection = self.connect()

    def let_in_as(self, role: str, file: str) -> None:
        """Have plugins and commands come as a role of the project's SQL files, with the same password."""
        self.run((ROOT / file).read_text())
        self.run(f"ALTER ROLE {role} PASSWORD %s", self.password)
        self.user = role

    def connect(self) -> psycopg2.extensions.connection:
        """As the administrator."""
        connection = psycopg2.connect(**{**self.dsn(), "user": self._administrator})
        connection.autocommit = True
        return connection

    def reconnect(self) -> None:
        """After the server went away."""
        self.connection.close()
        self.connection = self.connect()

    def run(self, statement: str, *values: object) -> list[tuple]:
        """Execute, and give the rows, if there are any."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, *values: object) -> object:
        """The only value of the only row."""
        return self.run(statement, *values)[0][0]

    def dsn(self) -> dict[str, object]:
        """As libpq wants it."""
        return {"host": self.host, "port": self.port, "dbname": self.name, "user": self.user,
                "password": self.password}

    def settings(self) -> dict[str, object]:
        """As the plugins want them."""
        return {"host": self.host, "port": self.port, "database": self.name, "user": self.user,
                "password": self.password, "ssl_enable": True, "ssl_mode": "disable"}


class Project:
    """A clone of the project with data of its own."""

    def __init__(self, folder: Path, source: Database, warehouse: Database) -> None:
        self.folder, self.source, self.warehouse = folder, source, warehouse
        folder.mkdir(exist_ok=True)
        for name in (".venv", "plugins"):
            (folder / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "meltano.yml", folder)
        (folder / "extract").mkdir()
        self.csv("order_details.csv",
                 "order_id,product_id,unit_price,quantity,discount\n1,11,14,12,0\n1,42,9.8,10,0.15\n")
        self.zone: Landed = Folder(self.output)
        lines = []
        for role, database in (("SOURCE", source), ("TARGET", warehouse)):
            values = {"HOST": database.host, "PORT": database.port, "DB": database.name, "USER": database.user,
                      "PASSWORD": _dotenv_quoted(database.password), "SSLMODE": "disable"}
            lines += [f"{role}_POSTGRES_{key}={value}" for key, value in values.items()]
        self._servers = "\n".join(lines) + "\n"
        self.land_in(self.zone)

    def land_in(self, zone: Landed) -> None:
        """Have this landing zone: .env gets its root and credentials, and the environment neither."""
        self.zone = zone
        variables = {"LANDING_ROOT": zone.root, **zone.variables}
        lines = "".join(f"{name}={_dotenv_quoted(value)}\n" for name, value in variables.items())
        (self.folder / ".env").write_text(lines + self._servers)

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def csv(self, name: str, content: str | bytes) -> Path:
        """Write a file into extract/."""
        path = self.folder / "extract" / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in
                ("PYTHONDONTWRITEBYTECODE", *RUN_VARIABLES)}
        return {**kept, "NO_COLOR": "1", **variables}

    def plugin_environment(self, **variables: str) -> dict[str, str]:
        """As Meltano starts a plugin: with the variables of .env."""
        root = {"LANDING_ROOT": self.zone.root, "MELTANO_PROJECT_ROOT": str(self.folder)}
        return self.environment(**root, **self.zone.variables) | variables

    def meltano(self, *arguments: str, check: bool = True, **variables: str) -> Result:
        """A real meltano command."""
        return self._run([str(self.folder / ".venv/bin/meltano"), *arguments], check, variables)

    def landing(self, *arguments: str, check: bool = True, **variables: str) -> Result:
        """The `landing` command."""
        return self._run([str(BIN / "landing"), *arguments], check,
                         {"MELTANO_PROJECT_ROOT": str(self.folder), **variables}, warm.Plugin)

    def _run(self, command: list[str], check: bool, variables: dict, start: type = subprocess.Popen) -> Result:
        with start(command, cwd=self.folder, env=self.environment(**variables), text=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            out, err = process.communicate(timeout=300)
        result = Result(command, process.returncode, out, err)
        assert not check or result.returncode == 0, result.text[-5000:]
        return result

    def run(self, command: list[str], text: str = "", **variables: str) -> Result:
        """A plugin by itself, with this for its input."""
        environment = self.plugin_environment(**variables)
        done = subprocess.run(command, cwd=self.folder, env=environment, input=text, capture_output=True, text=True,
                              timeout=300)
        return Result(done.args, done.returncode, done.stdout, done.stderr)

    def config(self, **settings: object) -> str:
        """A plugin's settings in a file."""
        path = self.folder / f"config-{next(numbers)}.json"
        path.write_text(json.dumps(settings))
        return str(path)

    def pipe(self, tap: list[str], target: list[str], check: bool = True, **variables: str) -> Result:
        """`tap | target`, failing when either does."""
        start_tap, start_target = (warm.Plugin if Path(command[0]).name in warm.COMMANDS else subprocess.Popen
                                   for command in (tap, target))
        environment = self.plugin_environment(**variables)
        with (self.folder / "tap.log").open("w+") as tap_log:
            source = start_tap(tap, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=tap_log)
            sink = start_target(target, cwd=self.folder, env=environment, stdin=source.stdout, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            source.stdout.close()
            out, err = sink.communicate(timeout=300)
            status = source.wait(timeout=60) or sink.returncode
            tap_log.seek(0)
            result = Result([*tap, "|", *target], status, out, tap_log.read() + err)
        assert not check or status == 0, result.text[-5000:]
        return result

    def tap_postgres(self, **settings: object) -> list[str]:
        return [str(BIN / "landing-tap-postgres"), "--config",
                self.config(**{**self.source.settings(), "filter_schemas": ["public"], **settings})]

    def tap_csv(self, *files: dict, **settings: object) -> list[str]:
        declared = list(files) or [{"entity": "order_details", "path": "extract/order_details.csv",
                                    "keys": ["order_id", "product_id"]}]
        return [str(BIN / "landing-tap-csv"), "--config", self.config(files=declared, **settings)]

    def tap_landed(self, **settings: object) -> list[str]:
        return [str(BIN / "landing-tap-csv"), "--config", self.config(from_landing=True, **settings)]

    def target_csv(self, **settings: object) -> list[str]:
        return [str(BIN / "landing-target-csv"), "--config", self.config(**settings)]

    def target_postgres(self, **settings: object) -> list[str]:
        return [str(BIN / "landing-target-postgres"), "--config",
                self.config(**self.warehouse.settings(), **settings)]

    def land(self, day: str, *sources: str, check: bool = True, **variables: str) -> Result:
        """Land the sources (both, if none is named) for a date."""
        for source in sources or ("postgres", "csv"):
            tap = self.tap_postgres() if source == "postgres" else self.tap_csv()
            result = self.pipe(tap, self.target_csv(), check, DATESTAMP=day, **variables)
        return result

    def load(self, day: str, check: bool = True, **variables: str) -> Result:
        """Load a date."""
        return self.pipe(self.tap_landed(), self.target_postgres(), check, EXTRACTED_AT=day, **variables)

    def manifest(self, source: str, day: str) -> dict:
        return json.loads(self.manifest_path(source, day).read_text())

    def write_manifest(self, source: str, day: str, manifest: dict) -> None:
        """Put it in place, with the SHA-256 of what it now says."""
        self.manifest_path(source, day).write_text(json.dumps(sealed(manifest)))

    def manifest_path(self, source: str, day: str) -> Path:
        return self.output / f"source={source}" / f"extracted_at={day}" / "_manifest.json"

    def landed(self) -> dict[str, bytes]:
        """Every file below source=, by its path."""
        return {key: self.zone.read(key) for key in self.zone.keys("source=")}

    def unproved(self, *days: str) -> list[Verification]:
        """What `landing verify` would find wrong with these dates of the source postgres, without starting it."""
        zone = LandingZone(self.zone.storage())
        with contextlib.closing(connect(self.warehouse.dsn(), "test")) as connection:
            proof = Reconciliation(zone, connection, "public")
            proofs = [one for day in days for one in proof.tables(zone.require("postgres", date.fromisoformat(day)))]
        assert proofs
        return [one for one in proofs if not one.holds]

    def rows(self, table: str, schema: str = "public") -> list[tuple]:
        """All rows of a warehouse relation, as text, sorted."""
        relation = sql.Identifier(schema, table).as_string(self.warehouse.connection)
        return sorted(self.warehouse.run(f"SELECT t::text FROM {relation} t"))


def _dotenv_quoted(password: str) -> str:
    """In single quotes, as python-dotenv reads it and a shell does not: tests don't source it."""
    return "'" + password.replace("\\", "\\\\").replace("'", "\\'") + "'"


def let_others_through(folder: Path) -> bool:
    """Give other users the right to enter `folder`, as far as pytest made the path; whether they can then."""
    temporary = Path(tempfile.gettempdir()).resolve()
    for one in (folder, *folder.parents):
        if temporary not in one.parents:
            break
        one.chmod(one.stat().st_mode | 0o055)
    return is_reachable(folder)


def require_others_through(folder: Path) -> None:
    """Skip where other users cannot enter the temporary folder."""
    if not let_others_through(folder):
        pytest.skip(f"other users cannot enter {tempfile.gettempdir()}: set TMPDIR to a folder that they can enter")


# Waits for the end of a test process; where it was killed, its server is running still.
GUARD = """
import os, pathlib, signal, sys
sys.stdin.read()
file = pathlib.Path(sys.argv[1], "postmaster.pid")
file.exists() and os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)
"""


@contextlib.contextmanager
def running(kind: type[Server] = Server, **settings: str) -> Iterator[Server]:
    """A PostgreSQL server of its own for tests; it ends with them, also when their process is killed.

    Not in pytest's folder: as root the server runs as nobody, and any start of pytest closes that to other users.
    """
    folder = Path(tempfile.mkdtemp(prefix="landing-tests-"))
    folder.chmod(0o755)
    server = kind(folder, {"fsync": "off", **settings})
    server.start()
    guard = subprocess.Popen([sys.executable, "-c", GUARD, server.data], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield server
    finally:
        server.remove()
        guard.communicate()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """A plugin that runs in this process restricts what later tests write."""
    os.umask(before := os.umask(0o022))
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One embedded PostgreSQL for all tests."""
    with running(max_connections="150") as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def plugins() -> Iterator[None]:
    """What warm.Plugin is started by."""
    plugins = warm.Server()
    yield
    plugins.close()


@contextlib.contextmanager
def administrator(server: Server) -> Iterator[psycopg2.extensions.cursor]:
    """A cursor of the server's owner."""
    with contextlib.closing(server.connect("postgres")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


@contextlib.contextmanager
def databases(server: Server) -> Iterator:
    """Makes databases of a role with a password that is hard to pass on, and drops them."""
    made = []

    def make(prefix: str, on: Server = server, options: str = "") -> Database:
        name = f"{prefix}_{next(numbers)}"
        with administrator(on) as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = 'tester'")
            if not cursor.fetchone():
                cursor.execute("CREATE ROLE tester LOGIN SUPERUSER PASSWORD %s", (PASSWORD,))
            cursor.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), sql.SQL(options)))
        made.append((on, Database(on, name, "tester", PASSWORD)))
        database = made[-1][1]
        if os.environ.get("LEAST_PRIVILEGE") == "1" and prefix in ROLES:
            database.let_in_as(*ROLES[prefix])
            if prefix == "warehouse":  # tests load into schemas that the file does not name
                database.run(f"GRANT CREATE ON DATABASE {name} TO {database.user}")
        return database

    yield make
    for on, database in made:
        database.connection.close()
        with administrator(on) as cursor:
            cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database.name)))


@pytest.fixture
def make_database(server: Server) -> Iterator:
    """As databases() has it, for one test."""
    with databases(server) as make:
        yield make


@pytest.fixture
def project(tmp_path: Path, make_database) -> Project:
    """A project with an empty source and an empty warehouse."""
    return Project(tmp_path, make_database("source"), make_database("warehouse"))


@pytest.fixture
def shop(project: Project) -> Project:
    """A project whose source has two small tables, one without a key."""
    project.source.run(
        "CREATE TABLE orders (order_id smallint PRIMARY KEY, customer text, freight real);"
        "INSERT INTO orders SELECT g, 'c' || g % 7, g / 4.0 FROM generate_series(1, 100) g;"
        "CREATE TABLE notes (order_id integer, note text);"
        "INSERT INTO notes SELECT g % 10, 'n' FROM generate_series(1, 40) g"
    )
    return project


@pytest.fixture
def inside(shop: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Plugins and commands of the shop in this process."""
    from in_process import InProcess, plugin_environment

    with plugin_environment(shop.folder):
        yield InProcess(shop, monkeypatch, caplog)


@contextlib.contextmanager
def in_the_background(work):
    """Do something again and again until the end."""
    ended = threading.Event()

    def go_on():
        while not ended.is_set():
            work()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
