"""PostgreSQL's own tools: psql is the limit."""

from __future__ import annotations

from pathlib import Path

from contestant import EXTRACT, LOAD, LOAD_KEY, VERIFY, Contestant
from data import LARGE, SALES, SAMPLE, USUAL, WIDE, Data
from databases import TARGET
from measure import Cost


class Psql(Contestant):
    """`\\copy` of CSV: the limit."""

    name = "psql, 1 connection"
    settings = "`\\copy … (FORMAT csv, HEADER)`; the key after the data"
    once = (LOAD,)
    once_from = USUAL

    @classmethod
    def takes(cls, data: Data, phase: str) -> bool:
        return (data.shape is WIDE and phase in (EXTRACT, LOAD_KEY)) or super().takes(data, phase)

    def extract(self, data: Data) -> Cost:
        return self.run(self._psql(self._copy(data.shape.table, "TO", self.out(data, True))), database=data.name)

    def load(self, data: Data, key: bool) -> Cost:
        copy = self._copy(data.shape.table, "FROM", self.out(data, True))
        return self.run(self._psql(copy, *[data.shape.key] * key), database=TARGET)

    def _psql(self, *statements: str) -> list:
        commands = [word for statement in statements for word in ("-c", statement)]
        return [self.databases.binaries / "psql", "-Xqv", "ON_ERROR_STOP=1", *commands]

    @staticmethod
    def _copy(what: str, direction: str, path: Path) -> str:
        return f"\\copy {what} {direction} '{path}' (FORMAT csv, HEADER)"


class PsqlTwice(Psql):
    """The same in two processes at once."""

    name = "psql, 2 connections"
    settings = ("two at once: `\\copy` of the table's halves by ctid, of two files into one table; the key after both. "
                "Verify: `\\copy` of both halves into sha256sum, and sha256sum of the files")
    phases = (EXTRACT, LOAD, LOAD_KEY, VERIFY)
    once = ()
    once_from = LARGE

    def before_extract(self, data: Data) -> None:
        super().before_extract(data)
        self.out(data, True).mkdir()

    def extract(self, data: Data) -> Cost:
        halves = zip(self._halves(data, data.name), self._files(data), strict=True)
        return self.run(*(self._psql(self._copy(half, "TO", path)) for half, path in halves), database=data.name)

    def load(self, data: Data, key: bool) -> Cost:
        commands = [self._psql(self._copy(data.shape.table, "FROM", path)) for path in self._files(data)]
        cost = self.run(*commands, database=TARGET)
        return cost + self.run(self._psql(data.shape.key), database=TARGET) if key else cost

    def verify(self, data: Data) -> Cost:
        """The work of it; the rows' order differs between files and table, so that nothing can be compared."""
        hashed = [self._psql(f"\\copy {half} TO PROGRAM 'sha256sum' (FORMAT csv)")
                  for half in self._halves(data, TARGET)]
        return self.run(*hashed, ["sha256sum", *self._files(data)], database=TARGET)

    def _halves(self, data: Data, database: str) -> list[str]:
        table = data.shape.table
        middle = self.databases.pages(database, table) // 2
        return [f"(SELECT * FROM {table} WHERE ctid {sign} '({middle},0)')" for sign in ("<", ">=")]  # noqa: S608

    def _files(self, data: Data) -> list[Path]:
        return [self.out(data, True) / f"{number}.csv" for number in (1, 2)]


class PgDump(Contestant):
    name = "pg_dump, pg_restore"
    settings = "`-Fd -j 2`, uncompressed"
    phases = (EXTRACT, LOAD_KEY)
    slow = True
    prepared = False

    @classmethod
    def takes(cls, data: Data, phase: str) -> bool:
        return phase in cls.phases and data is not SAMPLE and data.shape is not SALES

    def extract(self, data: Data) -> Cost:
        words = ["-Fd", "-j", 2, "-Z", "none", "-f", self.out(data, True)]
        return self.run([self.databases.binaries / "pg_dump", *words], database=data.name)

    def load(self, data: Data, key: bool) -> Cost:
        command = [self.databases.binaries / "pg_restore", "-j", 2, "-d", TARGET, self.out(data, True)]
        return self.run(command, database=TARGET)
