"""Dates landed and loaded in this process, from rows as text and without plugins: milliseconds for each."""

import contextlib
import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import date

from conftest import Project
from landing.core.dates import now
from landing.load.planning import refuse_shared_names
from landing.load.staging import Load
from landing.load.warehouse import Warehouse
from landing.model import csv_dialect
from landing.model.manifest import Manifest
from landing.model.naming import new_run_id
from landing.model.schema import Column, File, Table
from landing.postgres.connect import connect
from landing.postgres.worker_pool import WorkerPool
from landing.storage import hashing
from landing.verify.reconcile import Reconciliation, Verification
from landing.zone.commit import commit
from landing.zone.landing_zone import LandingZone
from psycopg2 import sql

Rows = Sequence[Sequence[str | None]]
logger = logging.getLogger("test")


class Dates:
    """A landing zone and a warehouse. A table is `(columns, rows, *key)`; columns are types by name."""

    def __init__(self, project: Project) -> None:
        self.project, self.zone = project, LandingZone.at(project.output)
        self.names: Mapping[str, str] = {}  # the setting table_names
        self._connections = contextlib.ExitStack()
        self.connection = self._connect()
        self.run, self.one = project.warehouse.run, project.warehouse.one

    def close(self) -> None:
        self._connections.close()

    def _connect(self):
        connection = connect(self.project.warehouse.dsn(), "test")
        return self._connections.enter_context(contextlib.closing(connection))

    def land(self, day: str, source: str = "postgres", chunks: int = 1, declared: bool = False,
             **tables: tuple) -> None:
        """Commit a date of a source, each table in so many files."""
        run_id = new_run_id()
        staged, landed = {}, []
        for number, (name, (columns, rows, *key)) in enumerate(tables.items()):
            columns = [Column(column, type_) for column, type_ in columns.items()]
            parts = [rows[place::chunks] for place in range(chunks)]
            staged[name] = [self.zone.staging(run_id) / f"{number}-{place}.csv" for place in range(chunks)]
            files = [_write(path, columns, part) for path, part in zip(staged[name], parts, strict=True)]
            landed.append(Table(stream=name, name=name, columns=columns, primary_key=[*key], files=files,
                                declared_types=declared))
        commit(self.zone, Manifest(source=source, extracted_at=date.fromisoformat(day), run_id=run_id, taken_at=now(),
                                   seconds=1, snapshot={}, software={}, tables=landed), staged)
        self.zone.discard(run_id)

    def load(self, day: str, *sources: str, reload: bool = False, connections: int = 1) -> None:
        """As target-postgres does it."""
        when, sources = date.fromisoformat(day), sources or ("postgres",)
        manifests = [self.zone.require(source, when) for source in sources]
        warehouse = Warehouse(self.connection, "public", logger, names=self.names)
        loads = {f"{manifest.source}-{table.stream}": warehouse.names.placed(
                     Load(manifest.source, when, manifest.run_id, manifest.taken_at, table))
                 for manifest in manifests for table in manifest.tables}
        refuse_shared_names(loads.values())
        warehouse.acquire(loads=loads.values())
        try:
            missing = loads if reload else warehouse.missing(when, loads)
            new = warehouse.planned(missing, [load for stream, load in loads.items() if stream not in missing])
            files = {f"{manifest.source}-{table.stream}": [(self.zone.file(manifest, file), file)
                                                           for file in table.files]
                     for manifest in manifests for table in manifest.tables}
            with WorkerPool(connections, self._connect) as workers:
                staged = warehouse.stage(workers, [(load, files[stream]) for stream, load in new.items()],
                                         alone=connections == 1)
            warehouse.swap(when, sources, staged, loads.values())
        finally:
            warehouse.drop_staging()
            warehouse.execute("SELECT pg_advisory_unlock_all()")

    def shown(self, table: str, *columns: str) -> tuple[list[tuple], str | None]:
        """What a view has, and its comment."""
        return self.rows(table, *columns), self.one("SELECT obj_description(%s::regclass)", f"public.{table}")

    def proofs(self, day: str, *sources: str) -> list[Verification]:
        """What `landing verify` says of each table."""
        prover = Reconciliation(self.zone, self.connection, "public")
        return [one for source in sources or ("postgres",)
                for one in prover.tables(self.zone.require(source, date.fromisoformat(day)))]

    def unproved(self, *days: str) -> list[Verification]:
        """Of the source postgres."""
        return [one for day in days for one in self.proofs(day) if not one.holds]

    def rows(self, table: str, *columns: str, day: str | None = None) -> list[tuple]:
        """Of the view, or of a date in history, each value as COPY would write it."""
        relation = sql.Identifier("public_history" if day else "public", table)
        fields = sql.SQL(", ").join(sql.SQL("CASE WHEN num_nulls({0}) = 0 THEN concat({0}) END").format(
            sql.Identifier(column)) for column in columns)
        where = sql.SQL(" WHERE extracted_at = {}").format(sql.Literal(day)) if day else sql.SQL("")
        with self.connection.cursor() as cursor:
            cursor.execute(sql.SQL("SELECT {} FROM {}{}").format(fields, relation, where))
            return sorted(cursor.fetchall(), key=str)


def _write(path, columns: Sequence[Column], rows: Rows) -> File:
    content = csv_dialect.header(columns) + b"".join(map(csv_dialect.line, rows))
    with hashing.create(path) as file:
        file.write(content)
    return File(path.name, len(rows), len(content), hashlib.sha256(content).hexdigest())


def reordered(dates: Dates, table: str, day: str, order: Sequence[str]) -> None:
    """Give a partition its columns in another order, after a column that was dropped: as loads once left them."""
    types: Mapping[str, str] = dict(dates.run(
        "SELECT attname, format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END "
        "FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid = %s::regclass",
        f"public_history.{table}"))
    assert {*order} == {*types}
    old, new = f'public_history."{table}@{day}"', f'public_history."{table} odd"'
    columns = ", ".join(f'"{name}" {types[name]}' for name in order)
    names = ", ".join(f'"{name}"' for name in order)
    dates.run(f"CREATE TABLE {new} (gone text, {columns}); ALTER TABLE {new} DROP gone;"
              f"INSERT INTO {new} ({names}) SELECT {names} FROM {old};"
              f"ALTER TABLE public_history.{table} DETACH PARTITION {old}; DROP TABLE {old};"
              f'ALTER TABLE {new} RENAME TO "{table}@{day}";'
              f"ALTER TABLE public_history.{table} ATTACH PARTITION {old} FOR VALUES IN ('{day}')")
