"""The checks of one table, over its rows in the warehouse: a staging table, before the swap."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from landing.core.errors import describe
from landing.load import history
from landing.load.declared_checks import ENUM, MINIMUM, PATTERN, REQUIRED, UNIQUE, TableChecks, refuse
from landing.load.history import PARTITION_KEY, history_name
from landing.load.staging import Load
from landing.model.schema import Table
from landing.postgres.query import query
from landing.postgres.transaction import transaction

SHOWN = 60  # characters of a value in a message
# Types of columns that are checked by their values where history has them as text.
CAST = {"smallint", "integer", "bigint", "numeric", "real", "double precision", "boolean", "date", "uuid",
        "timestamp without time zone", "timestamp with time zone"}

# Executes a statement and undoes it. What PostgreSQL says against it is in landing.error then.
TRIAL = """
DO $$ BEGIN
    EXECUTE current_setting('landing.statement');
    RAISE EXCEPTION USING ERRCODE = 'LNDOK';
EXCEPTION
    WHEN SQLSTATE 'LNDOK' THEN PERFORM set_config('landing.error', '', false);
    WHEN OTHERS THEN PERFORM set_config('landing.error', SQLERRM, false);
END $$
"""


@dataclass(frozen=True)
class RowCheck:
    """A condition that each row keeps, as one of PostgreSQL's CHECK does: NULL keeps it."""

    name: str
    expected: str
    condition: sql.Composable
    column: str | None = None
    pattern: str = ""  # a regular expression in it


@dataclass(frozen=True)
class Finding:
    """A check that does not hold."""

    check: str
    expected: str
    found: str


class TableChecker:
    """The checks of a planned load, with its columns by their names in the source."""

    def __init__(self, load: Load, landed: Table, checks: TableChecks) -> None:
        """`landed`: the table with the types that it is landed with, by which it is checked."""
        self.checks, self._landed = checks, landed
        types = {column.name: column.type for column in landed.columns if column.type.split("(")[0] in CAST}
        self._columns = {_source_name(name): type_ for name, type_ in load.layout.items() if name != PARTITION_KEY}
        self._columns |= {name: type_ for name, type_ in types.items() if self._columns[name] == "text"}

    def validate(self, cursor: Cursor) -> None:
        """Raise SettingError for a check that PostgreSQL cannot run over these columns. Changes nothing."""
        for column, rule in self.checks.rules:
            if column not in self._columns:
                refuse(self.checks.where, f"{rule}: there is no column {column}. The table has: "
                                          f"{', '.join(self._columns)}")
        table = sql.SQL("CREATE TEMPORARY TABLE landing_check ({}); ").format(history.fields(self._columns))
        for check in self._row_checks():  # a CHECK refuses subqueries and aggregates
            constraint = sql.SQL("ALTER TABLE landing_check ADD CHECK ({}); SELECT '' ~ {}").format(
                check.condition, sql.Literal(check.pattern))
            if problem := _problem(cursor, table + constraint):
                refuse(self.checks.where, f"the check {check.name} cannot be run: {problem}")
        for column in self._unique():
            if problem := _problem(cursor, table + sql.SQL("SELECT DISTINCT {} FROM landing_check").format(
                    sql.Identifier(column))):
                refuse(self.checks.where, f"{UNIQUE} of column {column} cannot be checked: {problem}")

    def _unique(self) -> list[str]:
        return [column for column, rule in self.checks.rules if rule == UNIQUE]

    def _row_checks(self) -> list[RowCheck]:
        """In the order of the declaration: rules of columns, then conditions."""
        rules = [self._rule(column, rule, value) for (column, rule), value in self.checks.rules.items()
                 if rule != UNIQUE]
        return rules + [RowCheck(name, text, sql.SQL("{}\n").format(sql.SQL(text)))  # a comment may end it
                        for name, text in self.checks.conditions.items()]

    def _rule(self, column: str, rule: str, value: Any) -> RowCheck:
        name, field = f"{rule} of column {column}", sql.Identifier(column)
        if rule == REQUIRED:
            return RowCheck(name, "a value in each row", sql.SQL("{} IS NOT NULL").format(field), column)
        if rule == PATTERN:
            pattern = f"^(?:{value})$"
            condition = sql.SQL("{}::text ~ {}").format(field, sql.Literal(pattern))
            return RowCheck(name, f"texts that match {value!r}", condition, column, pattern)
        if rule == ENUM:
            values = sql.SQL(", ").join(self._value(column, one) for one in value)
            return RowCheck(name, f"one of {', '.join(map(str, value))}", sql.SQL("{} IN ({})").format(field, values),
                            column)
        sign, words = (">=", "at least") if rule == MINIMUM else ("<=", "at most")
        return RowCheck(name, f"{words} {value}", sql.SQL("{} {} {}").format(
            field, sql.SQL(sign), self._value(column, value)), column)

    def _value(self, column: str, value: Any) -> sql.Composable:
        """A declared value, by the column's type."""
        return sql.SQL("{}::{}").format(sql.Literal(str(value)), sql.SQL(self._columns[column]))

    def findings(self, connection: Connection, relation: sql.Identifier,
                 before: tuple[Any, int] | None) -> list[Finding]:
        """The checks that do not hold.

        Args:
            connection: To the warehouse.
            relation: The table with the rows.
            before: The newest loaded date before, and its rows.
        """
        reader = _Reader(connection, relation, self._columns)
        rows, = reader.counts(())
        return [*self._of_count(rows, before), *self._of_rows(reader, rows), *self._of_values(reader)]

    def _of_count(self, rows: int, before: tuple[Any, int] | None) -> Iterator[Finding]:
        least, most = self.checks.min_rows, self.checks.max_change
        if least is not None and rows < least:
            yield Finding("min_rows", f"at least {least:,} rows", f"{rows:,}")
        if most is not None and before and before[1] and abs(rows - before[1]) * 100 > most * before[1]:
            change = 100 * (rows - before[1]) / before[1]
            yield Finding("max_change", f"a change of at most {most}% from the {before[1]:,} rows of {before[0]}",
                          f"{rows:,} rows ({change:+.1f}%)")

    def _of_rows(self, reader: _Reader, rows: int) -> Iterator[Finding]:
        checks = self._row_checks()
        for check, count in zip(checks, reader.counts(checks)[1:], strict=True):
            if isinstance(count, str):
                yield Finding(check.name, check.expected, f"an error: {count}")
            elif count:
                example = reader.example(check, self._landed.primary_key)
                yield Finding(check.name, check.expected, f"{count:,} of {rows:,} rows that do not keep it{example}")

    def _of_values(self, reader: _Reader) -> Iterator[Finding]:
        for column in self._unique():
            if (repeated := reader.repeated(column))[0]:
                yield Finding(f"{UNIQUE} of column {column}", "each value in one row",
                              f"{repeated[0]:,} values in several rows, such as {repeated[1]!r}")


class _Reader:
    """Reads one table, with columns by their names in the source, in transactions that cannot write."""

    def __init__(self, connection: Connection, relation: sql.Identifier, columns: Mapping[str, str]) -> None:
        self._connection = connection
        names = {name: (sql.Identifier(history_name(name)), sql.SQL(type_)) for name, type_ in columns.items()}
        fields = sql.SQL(", ").join(sql.SQL("{}::{} AS {}").format(*column, sql.Identifier(name))
                                    for name, column in names.items())
        self._rows = sql.SQL("(SELECT {} FROM {}) checked").format(fields, relation)

    def _query(self, statement: sql.Composable) -> list[tuple]:
        with transaction(self._connection) as cursor:
            query(cursor, "SET TRANSACTION READ ONLY")
            return query(cursor, statement)

    def counts(self, checks: Sequence[RowCheck]) -> list[int | str]:
        """The number of rows, then of rows that break each check; or PostgreSQL's error with a row's values."""
        broken = [sql.SQL("count(*) FILTER (WHERE NOT ({}))").format(check.condition) for check in checks]
        fields = sql.SQL(", ").join([sql.SQL("count(*)"), *broken])
        try:
            return list(self._query(sql.SQL("SELECT {} FROM {}").format(fields, self._rows))[0])
        except psycopg2.DataError as error:
            return [0, describe(error)] if len(checks) == 1 else [0, *(self.counts([one])[1] for one in checks)]

    def example(self, check: RowCheck, key: Sequence[str]) -> str:
        """The first row that breaks a check: its key, and the value."""
        names = dict.fromkeys([*key, *([check.column] if check.column else [])])
        if not names:
            return ""
        parts = [sql.SQL("{} || left({}::text, {})").format(sql.Literal(f"{name} "), sql.Identifier(name),
                                                            sql.Literal(SHOWN)) for name in names]
        found = self._query(sql.SQL("SELECT concat_ws(', ', {}) FROM {} WHERE NOT ({}) LIMIT 1").format(
            sql.SQL(", ").join(parts), self._rows, check.condition))
        return f", such as {found[0][0]}" if found[0][0] else ""

    def repeated(self, column: str) -> tuple[int, str]:
        """How many values are in several rows, and one of them."""
        return self._query(sql.SQL(
            "SELECT count(*), min(value) FROM (SELECT left(min({0}::text), {1}) AS value FROM {2} "
            "WHERE {0} IS NOT NULL GROUP BY {0} HAVING count(*) > 1) repeated").format(
            sql.Identifier(column), sql.Literal(SHOWN), self._rows))[0]


def _problem(cursor: Cursor, statement: sql.Composable) -> str:
    """What PostgreSQL says against a statement; empty if nothing. A statement that ends a transaction is refused."""
    query(cursor, "SELECT set_config('landing.statement', %s, false)", (statement.as_string(cursor),))
    query(cursor, TRIAL)
    return query(cursor, "SELECT current_setting('landing.error')")[0][0]


def _source_name(name: str) -> str:
    """The source's name of a column of history: see history_name()."""
    return name[:-1] if re.fullmatch(f"{PARTITION_KEY}_+", name) else name
