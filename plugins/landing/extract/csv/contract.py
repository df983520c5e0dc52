"""The contract of an entity: columns that SQL fills, and rules that each row keeps.

Values are normalized first (conversion.py), then derived, then checked: by the types of all columns, by the rules of
single columns in declared order, by the SQL of whole rows, and at last by `unique`, among the rows that keep all else.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from landing.core.errors import SettingError
from landing.extract.csv import rules
from landing.extract.csv.checks import Check
from landing.extract.csv.declaration import Declaration
from landing.extract.csv.rules import BOUNDS, ENUM, PATTERN, UNIQUE, Rule, literal
from landing.extract.csv.typed_values import duckdb_type, text_of, typed
from landing.model import declared_types

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from landing.extract.csv.row_sql import RowSql, RowSqlParser

DERIVE = "derive"
FOUND = 60  # characters of a value in a message


class Contract:
    """What a declaration asks of the columns of its files.

    Attributes:
        fields: Number of columns: those of the file, then new ones that are derived.
        derived: SQL by position, in order.
    """

    def __init__(self, declaration: Declaration, names: Sequence[str], header: Sequence[str],
                 types: Mapping[int, str]) -> None:
        """Args:
        declaration: With rules, derived columns and checks.
        names: Of all columns; those of the header first.
        header: The names in the files.
        types: Declared types by position.

        Raises:
            SettingError: A rule or SQL does not fit the columns.
        """
        self._entity, self._names, self._header, self._types = declaration.entity, names, header, types
        self.fields = len(names)
        self._rules = declaration.rules
        self.derived: dict[int, RowSql] = {}
        self._checks: dict[str, RowSql] = {}
        for rule in declaration.rules:
            if reason := rules.misfit(rule, self.type(rule.column)):
                self._refuse(f"columns.{rule.column}.{rule.name}", reason)
        for column in declaration.derive:
            if self.type(column) is None:
                self._refuse(f"derive.{column}", "fills a column without a type. Declare one, under columns")
        if self._rules or declaration.derive or declaration.checks:
            self._bind(declaration)

    def type(self, column: str) -> str | None:
        """The declared type of a column."""
        return self._types.get(self.position(column))

    def position(self, column: str) -> int:
        """A column's position, by its new or its original name."""
        return self._names.index(column) if column in self._names else self._header.index(column)

    def _bind(self, declaration: Declaration) -> None:
        """Have DuckDB check values, patterns and SQL."""
        import duckdb  # here: an entity without a contract needs none for its header

        from landing.extract.csv.row_sql import RowSqlParser

        with duckdb.connect(config={"threads": 1}) as connection:
            for rule in self._rules:
                self._bind_values(connection, rule)
            parser = RowSqlParser(connection, self._value)
            for column, text in declaration.derive.items():
                self.derived[self.position(column)] = self._bound(connection, parser, f"derive.{column}", text)
            for name, text in declaration.checks.items():
                self._checks[name] = self._bound(connection, parser, f"checks.{name}", text, "BOOLEAN")

    def _bind_values(self, connection: DuckDBPyConnection, rule: Rule) -> None:
        from duckdb import Error

        where, type_ = f"columns.{rule.column}.{rule.name}", self.type(rule.column)
        if rule.name == PATTERN:
            try:
                connection.execute(f"SELECT regexp_full_match('', {literal(rule.values[0])})")
            except Error as error:
                self._refuse(where, f"{rule.values[0]!r} is not a regular expression of RE2: {_line(error)}")
        if type_ and rule.name in (*BOUNDS, ENUM):
            for value in rule.values:
                valid = declared_types.held(type_, literal(value)) or declared_types.fits(type_, literal(value))
                if valid and not connection.execute(f"SELECT {valid}").fetchone()[0]:
                    self._refuse(where, f"{value!r} is not a value of the column's type {type_}")

    def _bound(self, connection: DuckDBPyConnection, parser: RowSqlParser, where: str, text: str,
               wanted: str = "") -> RowSql:
        """SQL that DuckDB can execute."""
        from duckdb import Error

        columns = ", ".join(f"NULL::VARCHAR AS c{index}" for index in range(self.fields))
        try:
            found = parser.parse(text)
            row = connection.execute(f"DESCRIBE SELECT {found.sql} FROM (SELECT {columns})").fetchone()  # noqa: S608
        except (ValueError, Error) as error:
            self._refuse(where, f"{text!r} is not SQL over the columns of a row: {_line(error)}")
        if wanted and row[1] != wanted:
            self._refuse(where, f"{text!r} is not a condition: its type is {row[1]}")
        return found

    def _value(self, name: str) -> str:
        """DuckDB's SQL for a column that a person's SQL names; ValueError if it cannot be used there."""
        index = self._named(name)
        type_ = self._types.get(index)
        if type_ is None:
            raise ValueError(f"the column {name} has no declared type. Declare one, under columns")
        if duckdb_type(type_) is None:
            exact = ": declare numeric(p, s) of up to 38 digits" if type_.startswith(("numeric", "decimal")) else ""
            raise ValueError(f"the column {name} has the type {type_}, which DuckDB does not have{exact}")
        return typed(type_, f"c{index}")

    def _named(self, name: str) -> int:
        """The position of a column in SQL, where the case of names need not agree."""
        if name in self._names or name in self._header:
            return self.position(name)
        found = [index for index, one in enumerate(self._names) if one.casefold() == name.casefold()]
        if len(found) != 1:
            raise ValueError(f"there is no column {name}" if not found else f"the column {name} is ambiguous")
        return found[0]

    def _refuse(self, where: str, reason: str) -> NoReturn:
        raise SettingError(f"tap-csv, entity {self._entity!r}: {where} {reason.rstrip('.')}. Nothing was read. Correct "
                           "it under tap-csv in meltano.yml, and run again.")

    @property
    def used(self) -> set[int]:
        """Positions of the columns that SQL uses or fills."""
        return {*self.derived, *(self._named(name) for sql in (*self.derived.values(), *self._checks.values())
                                 for name in sql.columns)}

    def with_derived(self, relation: str) -> str:
        """A relation of all columns, as DuckDB's SQL, for one of the file's columns."""
        for index, sql in self.derived.items():
            text = f"TRY({text_of(self._types[index], sql.sql)})"
            column = (f"* REPLACE (coalesce(c{index}, {text}) AS c{index})" if index < len(self._header) else
                      f"*, {text} AS c{index}")
            relation = f"(SELECT {column} FROM {relation})"  # noqa: S608
        return relation

    def refuse_leaks(self, protected: Container[str]) -> None:
        """Raise SettingError for a derived column that would have protected values and is not protected itself."""
        for index, sql in self.derived.items():
            used = [name for name in sql.columns if self._names[self._named(name)] in protected]
            if used and self._names[index] not in protected:
                self._refuse(f"derive.{self._names[index]}",
                             f"uses the protected column {used[0]}, and is not protected itself. Protect it, too")

    def checks(self, wanted: Collection[int], protected: Container[str]) -> list[Check]:
        """The checks.

        Args:
            wanted: Positions of columns; rules of others are left out.
            protected: Names of columns whose values no message has.
        """
        derived = [Check(None, self._names[index], DERIVE, f"expected {sql.text}", self._not_computed(index, sql),
                         found=self._columns(sql, protected)) for index, sql in self.derived.items()]
        of_rows = [Check(None, None, name, f"expected {sql.text}", self._not_kept(sql),
                         found=self._columns(sql, protected)) for name, sql in self._checks.items()]
        single = [self._check(rule, protected) for rule in self._rules if self.position(rule.column) in wanted]
        return sorted([*derived, *single, *of_rows], key=lambda check: check.repeated)

    def _check(self, rule: Rule, protected: Container[str]) -> Check:
        index, reason = self.position(rule.column), f"expected {rule.expected}"
        name, found = self._names[index], self._shown(index, protected)
        if rule.name == UNIQUE:
            return Check(index, name, rule.name, reason, "", found=found, repeated=True)
        broken = rules.broken(rule, self._types.get(index), f"c{index}")
        return Check(None, name, rule.name, reason, broken, found=found)

    def _not_computed(self, index: int, sql: RowSql) -> str:
        return f"c{index} IS NULL AND ({self._lost(sql)} OR TRY(({sql.sql}) IS NULL) IS NULL)"

    def _not_kept(self, sql: RowSql) -> str:
        """As for PostgreSQL's CHECK, NULL keeps a condition; an error does not."""
        return f"{self._lost(sql)} OR NOT coalesce(TRY(coalesce({sql.sql}, true)), false)"

    def _lost(self, sql: RowSql) -> str:
        """DuckDB's condition that a value of a column cannot be computed with, such as NaN in a DECIMAL."""
        positions = {self._named(name) for name in sql.columns}
        return " OR ".join(["false", *(f"(c{index} IS NOT NULL AND {typed(self._types[index], f'c{index}')} IS NULL)"
                                       for index in sorted(positions))])

    def _columns(self, sql: RowSql, protected: Container[str]) -> str:
        """DuckDB's expression for the values that SQL uses."""
        parts = [f"{literal(self._names[index] + ' ')} || {self._shown(index, protected)}" for index in dict.fromkeys(
            self._named(name) for name in sql.columns)]
        return f"concat_ws(', ', {', '.join(parts or ['NULL'])})"

    def _shown(self, index: int, protected: Container[str]) -> str:
        """DuckDB's expression for a value in a message."""
        value = f"'''' || left(c{index}, {FOUND}) || ''''"
        if self._names[index] in protected:
            value = "'a protected value'"
        return f"CASE WHEN c{index} IS NULL THEN 'no value' ELSE {value} END"


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
