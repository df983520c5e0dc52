"""Real servers, files and processes for the state machine: what it changes, runs and reads.

Three sources: two databases (`postgres`, `crm`) and the CSV files (`csv`). The plugins are processes that warm.py
starts; sources, landed files and warehouse are read here by SQL and by a parser of our own, without the product's code.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import warm
from conftest import BIN, ROLES, Database, Project, databases
from landed import InStore
from model import Table
from model_files import APPEND, KEEP_LAST, ORDERS, QUARANTINE, Entity
from model_protection import Keys, Protection
from psycopg2 import sql
from servers import Server
from stores import Store

POSTGRES, CRM, CSV = SOURCES = ("postgres", "crm", "csv")
ENTITIES = [  # of the CSV source, as they are at first
    Entity("items", ("id",)),
    Entity("notes"),
    Entity("sales", ("id",), APPEND, KEEP_LAST),
    Entity("orders", on_bad_rows=QUARANTINE, contract=ORDERS)]
HEADERS = {"orders": ["id", "amount", "state", "code", "secret"]}  # of other files than `id,a`
PEOPLE = "people"  # a table of each database whose columns no step changes: it has all that may be protected
KEYS = Keys(b"token".ljust(32), {"first": b"first".ljust(32)})
TAPS = {POSTGRES: "landing-tap-postgres", CRM: "landing-tap-postgres", CSV: "landing-tap-csv"}
TABLE_NAMES = "{target_schema}_crm.{table}"  # of crm, whose tables have the names of the other database's
MANIFEST = "/_manifest.json"
FULL_EVERY = 3  # dates of an INCREMENTAL table
LARGEST = 3
CHECKS = {CSV: {"items": {"min_rows": 1, "columns": {"id": {"maximum": LARGEST}}}}}
NAMES = ["a", "b", "c", "extracted_at", "Größe"]  # of columns
CANARY = "Zebra7canary"  # a value of a column that is protected, where any is
# Views that people build: the role that owns one, and what it is. The loader is no member of the others' role.
OTHERS, OWN, OTHERS_MATERIALIZED, OWN_MATERIALIZED = "others'", "own", "others', materialized", "own, materialized"
KINDS = {OTHERS: ("", "VIEW"), OTHERS_MATERIALIZED: ("", "MATERIALIZED VIEW"),
         OWN: ("SET ROLE warehouse_loader;", "VIEW"),
         OWN_MATERIALIZED: ("SET ROLE warehouse_loader;", "MATERIALIZED VIEW")}
PINNED = "SET datestyle = 'ISO'; SET timezone = 'UTC'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1"

# Tables, views and materialized views, types as they have to land: an enum as text.
RELATIONS = """
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum),
       array_agg(CASE WHEN t.typtype = 'e' THEN 'text' ELSE format_type(a.atttypid, a.atttypmod) END ORDER BY a.attnum),
       ARRAY(SELECT k.attname::text FROM pg_constraint p, unnest(p.conkey) WITH ORDINALITY AS part(attnum, place)
             JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = part.attnum
             WHERE p.conrelid = c.oid AND p.contype = 'p' ORDER BY part.place)
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind = ANY (%s)
GROUP BY c.oid ORDER BY 1
"""

PARTITIONS = """
SELECT p.relname, substring(pg_get_expr(c.relpartbound, c.oid) FROM '\\d{4}-\\d\\d-\\d\\d'), c.relname
FROM pg_class p JOIN pg_inherits i ON i.inhparent = p.oid JOIN pg_class c ON c.oid = i.inhrelid
WHERE p.relkind = 'p' AND p.relnamespace = to_regnamespace(%s)
"""


@dataclass
class Ended:
    """A run that has ended; `text` is all that it said."""

    status: int
    text: str


class Run:
    """`tap | target` at work, with the tap's output in a file on its way if it is to be kept."""

    def __init__(self, world: World, tap: list[str] | None, target: list[str], variables: dict[str, str],
                 messages: Path | None = None) -> None:
        """Without a tap, `messages` are the input of the target."""
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (end() closes it)
        environment = world.project.plugin_environment(PROTECTION_KEYS=world.protection.keys.variable, **variables)
        common = {"cwd": world.project.folder, "env": environment, "stderr": self._log}
        self._tap = None
        if tap and messages:
            with messages.open("wb") as file:
                self._tap = warm.Plugin(tap, stdout=file, **common)
                self._tap.wait(timeout=120)
        elif tap:
            self._tap = warm.Plugin(tap, stdout=subprocess.PIPE, **common)
        with messages.open("rb") if messages else contextlib.nullcontext() as file:
            self._target = warm.Plugin(target, stdin=file or self._tap.stdout, stdout=subprocess.DEVNULL, **common)
        if self._tap and self._tap.stdout:
            self._tap.stdout.close()

    def end(self) -> Ended:
        status = self._target.wait(timeout=120)
        if self._tap:
            status = self._tap.wait(timeout=60) or status
        self._log.seek(0)
        with self._log:
            return Ended(status, self._log.read())


class World:
    """A project with empty sources, an empty warehouse and an empty landing zone."""

    def __init__(self, server: Server, folder: Path, store: Store | None = None) -> None:
        """`store`: where the landing zone is, instead of a folder."""
        self._stack = contextlib.ExitStack()
        make = self._stack.enter_context(databases(server))
        self.folder = folder
        self.sources = {POSTGRES: make("source"), CRM: make("crm")}
        self.warehouse = make("warehouse")
        self.warehouse.let_in_as(*ROLES["warehouse"])
        self.warehouse.run(f"GRANT CREATE ON DATABASE {self.warehouse.name} TO {self.warehouse.user};"
                           f"CREATE SCHEMA people; GRANT ALL ON SCHEMA people TO {self.warehouse.user}")
        self.project = Project(folder, self.sources[POSTGRES], self.warehouse)
        if store:
            self.project.land_in(InStore(store, f"lake/{folder.parent.name} é"))
        self.zone = self.project.zone
        for database in (*self.sources.values(), self.warehouse):
            database.run(PINNED)
        self.by_key: int | None = None  # the column that is each table's replication key; None: FULL_TABLE
        self.checks: dict[str, object] = {}  # the setting
        self._names: dict[str, str] = {}  # the setting table_names
        self._commands: dict[str, list[str]] = {}
        self._parsed: dict[str, tuple] = {}
        self.protection = Protection({}, KEYS)
        self.entities = {one.name: one for one in ENTITIES}
        self.csv = {name: ([*HEADERS.get(name, ["id", "a"])], []) for name in self.entities}
        for header, rows in self.csv.values():
            rows.append(["1", "10", *[None] * (len(header) - 2)])
        for name in self.entities:
            self.write_csv(name)

    def close(self) -> None:
        self._stack.close()
        if isinstance(self.zone, InStore):
            self.zone.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    # Sources

    def declare_crm(self) -> None:
        """Add the second database to meltano.yml."""
        self._names = {CRM: TABLE_NAMES}
        meltano = self.folder / "meltano.yml"
        job = "- name: extract_crm\n  tasks:\n  - tap-crm target-csv\n"
        database = "      database: $TARGET_POSTGRES_DB\n"
        meltano.write_text(meltano.read_text().replace("- name: extract_csv\n", f"{job}- name: extract_csv\n").replace(
            database, f"{database}      table_names: {{crm: '{TABLE_NAMES}'}}\n"))

    def change(self, source: str, statement: str) -> bool:
        """Change a source; False where its server refuses that."""
        try:
            self.sources[source].run(statement)
        except psycopg2.Error:
            return False
        return True

    def tables(self, source: str) -> dict[str, Table]:
        """A database as it is now."""
        return relations(self.sources[source], "public", "rvm")

    def write_csv(self, name: str) -> None:
        """The file of an entity as `csv` has it."""
        header, rows = self.csv[name]
        self.project.csv(f"{name}.csv", "".join(",".join(map(_field, row)) + "\n" for row in [header, *rows]))

    # Commands

    def tap(self, source: str, **settings: object) -> list[str]:
        if source == CSV:
            settings |= {"files": [one.setting() for one in self.entities.values()],
                         "protect": {"*": {**self.protected_in_files()}}}
        else:
            settings |= {**self.sources[source].settings(), "filter_schemas": ["public"], "full_every": FULL_EVERY,
                         "protect": {"*": {**self.protection.methods}}}
        command = self._command(TAPS[source], source=source, **settings)
        return command if source == CSV or self.by_key is None else [*command, *self._incremental(command)]

    def protected_in_files(self) -> Mapping[str, str]:
        """Methods by column of the CSV files: a rule for a column that no file has is refused, and a key stays."""
        columns = {name for header, _ in self.csv.values() for name in header} - {"id"}
        return {name: method for name, method in self.protection.methods.items() if name in columns}

    def _incremental(self, tap: list[str]) -> list[str]:
        """The option with a catalog in which tables with a key are INCREMENTAL; none where the source is refused."""
        found = subprocess.PIPE
        with warm.Plugin([*tap, "--discover"], cwd=self.folder, env=self.project.plugin_environment(), stdout=found,
                         stderr=subprocess.DEVNULL) as discovery:
            text = discovery.communicate(timeout=60)[0].decode()
        if discovery.returncode:
            return []
        catalog = json.loads(text)
        for entry in catalog["streams"]:
            columns = [one for one in entry["schema"]["properties"] if one not in self.protection.methods]
            if entry["key_properties"] and columns:  # the column of a replication key cannot be protected
                entry |= {"replication_method": "INCREMENTAL", "replication_key": columns[self.by_key % len(columns)]}
        text = json.dumps(catalog)
        path = self.folder / f"catalog-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        path.write_text(text)
        return ["--catalog", str(path)]

    def target_csv(self, source: str) -> list[str]:
        return self._command("landing-target-csv", source=source)

    def tap_landed(self, **settings: object) -> list[str]:
        return self._command("landing-tap-csv", from_landing=True, **settings)

    def target_postgres(self, **settings: object) -> list[str]:
        return self._command("landing-target-postgres", **self.warehouse.settings(), table_names=self._names,
                             checks=self.checks, **settings)

    def _command(self, program: str, **settings: object) -> list[str]:
        key = program + json.dumps(settings)
        if key not in self._commands:
            self._commands[key] = [str(BIN / program), "--config", self.project.config(**settings)]
        return self._commands[key]

    # The landing zone

    def manifests(self) -> dict[tuple[str, str], dict]:
        """By (source, date)."""
        found = {}
        for key in self.zone.keys("source="):
            if key.endswith(MANIFEST):
                found[_date_of(key)] = json.loads(self.zone.read(key))
        return found

    def files(self) -> dict[tuple[str, str], dict[str, str]]:
        """Keys of the files of every date but its manifest, by (source, date) and by their path in it."""
        found: dict[tuple[str, str], dict[str, str]] = {}
        for key in self.zone.keys("source="):
            if not key.endswith(MANIFEST):
                found.setdefault(_date_of(key), {})[key.split("/", 2)[2]] = key
        return found

    def content(self, key: str) -> bytes:
        """Of a file, in plain where it is compressed."""
        content = self.zone.read(key)
        return gzip.decompress(content) if key.endswith(".gz") else content

    def landed_rows(self, key: str, sha256: str) -> tuple[list[str], list[tuple]]:
        """Header and rows of a file that has this hash; AssertionError if it has another."""
        content = self.content(key)
        assert hashlib.sha256(content).hexdigest() == sha256, f"{key} has not the hash that its manifest has"
        if sha256 not in self._parsed:
            header, *rows = parsed(content.decode())
            self._parsed[sha256] = list(header), rows
        return self._parsed[sha256]

    def staged(self) -> list[str]:
        """Work in progress."""
        return [key for key in self.zone.keys("_staging/") if not key.endswith(".lock")]

    # The warehouse

    def ledger(self, schema: str) -> set[tuple]:
        relation = sql.Identifier(f"{schema}_history", "_loads").as_string(self.warehouse.connection)
        if self.warehouse.one("SELECT to_regclass(%s) IS NULL", relation):
            return set()
        return {*self.warehouse.run(
            "SELECT source, extracted_at::text, CASE WHEN table_schema = %s THEN 'crm/' ELSE '' END || table_name, "
            f"rows, run_id FROM {relation}", f"{schema}_crm")}

    def partitions(self, schema: str) -> dict[tuple[str, str], str]:
        """Relations as SQL, by table and date."""
        return {(prefix + table, day): sql.Identifier(where, name).as_string(self.warehouse.connection)
                for prefix, where in (("", f"{schema}_history"), ("crm/", f"{schema}_crm_history"))
                for table, day, name in self.warehouse.run(PARTITIONS, where)}

    def history(self, schema: str) -> dict[str, Table]:
        return self._placed(f"{schema}_history", f"{schema}_crm_history", "p")

    def views(self, schema: str) -> dict[str, Table]:
        return self._placed(schema, f"{schema}_crm", "v")

    def _placed(self, schema: str, crm: str, kind: str) -> dict[str, Table]:
        return relations(self.warehouse, schema, kind) | {
            f"crm/{name}": table for name, table in relations(self.warehouse, crm, kind).items()}

    def relation(self, schema: str, view: str) -> str:
        """The SQL name of a view of views()."""
        where = (f"{schema}_crm", view.removeprefix("crm/")) if view.startswith("crm/") else (schema, view)
        return sql.Identifier(*where).as_string(self.warehouse.connection)

    def await_quiet(self) -> None:
        """Until the backends of a process that was killed are gone."""
        end = time.monotonic() + 30
        busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = ANY (%s) AND backend_type = 'client backend'"
        names = [database.name for database in (*self.sources.values(), self.warehouse)]
        while self.warehouse.one(busy, names) > len(names):
            assert time.monotonic() < end, "a backend outlives the process that it worked for"
            time.sleep(0.01)


def relations(database: Database, schema: str, kinds: str) -> dict[str, Table]:
    """Relations with all their rows, each value as its type's output function writes it."""
    found = {}
    for name, columns, types, key in database.run(RELATIONS, schema, list(kinds)):
        fields = sql.SQL(", ").join(sql.SQL("CASE WHEN {0} IS NOT NULL THEN concat({0}) END").format(
            sql.Identifier(column)) for column in columns)
        query = sql.SQL("SELECT {} FROM {}").format(fields, sql.Identifier(schema, name))
        found[name] = Table(dict(zip(columns, types, strict=True)), tuple(key),
                            database.run(query.as_string(database.connection)))
    return found


def _date_of(key: str) -> tuple[str, str]:
    """Source and date of a key below `source=`."""
    source, day = (part.partition("=")[2] for part in key.split("/")[:2])
    return source, day


def _field(text: str | None) -> str:
    if text is None:
        return ""
    return '"' + text.replace('"', '""') + '"' if text == "" or any(one in text for one in ',"\r\n') else text


def parsed(text: str) -> list[tuple[str | None, ...]]:
    """Rows of the landing zone's dialect: nothing at all is None, `""` the empty string."""
    rows, row, at = [], [], 0
    while at < len(text):
        if text[at] == '"':
            end = at + 1
            while text[end:end + 2] == '""' or text[end] != '"':
                end += 2 if text[end] == '"' else 1
            field, at = text[at + 1:end].replace('""', '"'), end + 1
        else:
            end = min(place for mark in ",\n" if (place := text.find(mark, at)) >= 0)
            field, at = text[at:end] or None, end
        row.append(field)
        assert text[at] in ",\n", f"{text[at:at + 20]!r} follows a field"
        if text[at] == "\n":
            rows.append(tuple(row))
            row = []
        at += 1
    return rows
