"""The server: one source database for each data set, and a target that is made anew for each load."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data import Data

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "demo"))

from servers import Server, find_binaries  # noqa: E402

TARGET = "target"
# Autovacuum would take a core from whoever comes next.
SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "autovacuum": "off"}


class Databases:
    """A PostgreSQL server below `folder`, with the data sets in it."""

    def __init__(self, folder: Path, tables: int = 1) -> None:
        folder.mkdir()
        self.settings = SETTINGS | {"max_locks_per_transaction": str(max(64, tables // 8))}
        self.server = Server(folder, self.settings)
        with contextlib.redirect_stdout(io.StringIO()):  # one line a measurement, and no others
            self.server.start()
        self.binaries = find_binaries()
        self.pid = int((self.server.data / "postmaster.pid").read_text().split()[0])

    def remove(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.remove()

    def sql(self, database: str, *statements: str) -> list[tuple]:
        """Run statements, each in a transaction of its own; the rows of the last."""
        with contextlib.closing(self.server.connect(database)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def make(self, data: Data, without_key: bool) -> None:
        """The source with its key, and one without, if asked for."""
        plain = data.database(key=not without_key)
        self.server.create_database(plain)
        self.sql(plain, data.shape.create or "SELECT")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done in [pool.submit(self.sql, plain, statement) for statement in data.fills()]:
                done.result()
        self.sql(plain, "VACUUM (FREEZE, ANALYZE)")
        if plain != data.name:
            self.sql("postgres", f"CREATE DATABASE {data.name} TEMPLATE {plain} STRATEGY file_copy")
        if data.shape.key:
            self.sql(data.name, data.shape.key)

    def fresh_target(self, data: Data | None = None) -> None:
        """An empty target database; with the table of `data`, where those who load want it there."""
        self.sql("postgres", f"DROP DATABASE IF EXISTS {TARGET} WITH (FORCE)", f"CREATE DATABASE {TARGET}")
        if data:
            self.sql(TARGET, data.shape.create)

    def count(self, database: str, table: str) -> int:
        """How many rows a table has."""
        [(rows,)] = self.sql(database, f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names
        return rows

    def header(self, database: str, table: str) -> str:
        """Names of a table's columns, with commas between."""
        rows = self.sql(database, f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass "  # noqa: S608
                                  "AND attnum > 0 ORDER BY attnum")
        return ",".join(name for (name,) in rows)

    def pages(self, database: str, table: str) -> int:
        """How many pages of 8 KiB a table has."""
        [(pages,)] = self.sql(database, f"SELECT pg_relation_size('{table}') / 8192")
        return pages

    def target_size(self) -> int:
        """Bytes that the target takes beyond an empty database."""
        [(taken,)] = self.sql("postgres", f"SELECT pg_database_size('{TARGET}') - pg_database_size('template1')")
        return taken

    def settle(self) -> None:
        """Nobody pays for what the one before left to be written."""
        self.sql("postgres", "CHECKPOINT")

    def variables(self, database: str) -> dict[str, str]:
        """How libpq finds a database."""
        server = self.server
        return {"PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user,
                "PGPASSWORD": server.password, "PGDATABASE": database, "PGSSLMODE": "disable"}

    def url(self, database: str) -> str:
        """The same, for those who take no variables."""
        server = self.server
        return f"postgresql://{server.user}:{server.password}@{server.host}:{server.port}/{database}"
