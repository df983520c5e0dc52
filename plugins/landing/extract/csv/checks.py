"""Checks of single values: functions, or DuckDB conditions over a column's text.

That is c0, c1, …, or t0, t1, … without outer spaces.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from landing.extract.csv import conversion, literals
from landing.extract.csv.conversion import ColumnReading
from landing.extract.csv.literals import Judge
from landing.model import declared_types
from landing.model.declared_types import Declared

KEY, TYPE = "key", "type"  # rules that keys and types imply


@dataclass(frozen=True)
class Check:
    """A DuckDB condition that is true where a value is `invalid`, and the reason to report.

    Attributes:
        index: The column's position; None: of the row, after the checks of all columns.
        name: The column's name, if it is about one.
        rule: The name of what it checks.
        reason: Why the value is rejected.
        invalid: The condition.
        inexact: The reason where PostgreSQL reads the value but would change it; empty if it cannot happen.
        readable: The condition for that case.
        judge: A function that accepts valid values, instead of conditions.
        found: The expression for what a message says was found.
        repeated: Whether it is that no earlier row has the value, instead of conditions.
    """

    index: int | None
    name: str | None
    rule: str
    reason: str
    invalid: str
    inexact: str = ""
    readable: str | None = None
    judge: Judge | None = None
    found: str | None = None
    repeated: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a row is rejected: the column, if it is about one, the rule, and the reason."""

    column: str | None
    rule: str
    reason: str


def unread(index: int, name: str, column: ColumnReading) -> Check:
    """A value must be one that the column's reading converts; r0, r1, … are the texts before."""
    reading, type_ = column.reading, column.type
    missing = conversion.is_null(reading, type_, conversion.normalized(reading, f"r{index}"))
    return Check(index, name, TYPE, conversion.reason(reading, type_), f"c{index} IS NULL AND NOT {missing}")


def missing_key(index: int, name: str) -> Check:
    """A key column must have a value."""
    return Check(index, name, KEY, "missing value in a key column", f"c{index} IS NULL")


def declared_type(index: int, name: str, type_: str, *, lossy: bool) -> Check | None:
    """A value must be of the declared type, which holds it exactly unless `lossy`.

    None if all texts are, or if only PostgreSQL can tell.
    """
    if literals.holds_all(Declared.of(type_)):
        return None
    column = f"t{index}" if Declared.of(type_).spaced else f"c{index}"
    fits, held = declared_types.fits(type_, column), None if lossy else declared_types.held(type_, column)
    reason = f"not a value of type {type_}"
    if not (valid := held or fits):
        judge = literals.judge(type_)
        return Check(index, name, TYPE, reason, "", judge=judge) if judge else None
    return Check(index, name, TYPE, reason, f"c{index} IS NOT NULL AND NOT coalesce({valid}, false)",
                 f"type {type_} does not hold it exactly", fits if held and held != fits else None)


class Checks:
    """Checks in order; a row is rejected by the first that fails. Its failure code names that check and its reason."""

    def __init__(self, checks: Sequence[Check], protected: Container[str] = ()) -> None:
        """`protected`: columns of whose values a reason says nothing."""
        self._checks, self._protected = checks, protected

    def failure_code(self, indexes: range, *, last: bool) -> str | None:
        """DuckDB's expression for the code of the first failure in these columns, or NULL; None without a check.

        `last`: these are the last columns, so the checks of the row follow.
        """
        cases = [f"WHEN {check.invalid} THEN {2 * number}"
                 + (f" + coalesce({check.readable}, false)::INTEGER" if check.readable else "")
                 for number, check in enumerate(self._checks) if check.invalid and (
                     last if check.index is None else check.index in indexes)]
        return f"CASE {' '.join(cases)} END" if cases else None

    def found(self) -> str:
        """DuckDB's expression for what was found, by the failure code `code`."""
        cases = [f"WHEN {2 * number} THEN {check.found}" for number, check in enumerate(self._checks) if check.found]
        return f"CASE code {' '.join(cases)} END" if cases else "NULL"

    def judged(self) -> Iterator[tuple[int, Check]]:
        """The checks that need Python, with the failure code of each."""
        return ((2 * number, check) for number, check in enumerate(self._checks) if check.judge)

    def repeated(self) -> Iterator[tuple[int, Check]]:
        """The checks that compare rows, with the failure code of each."""
        return ((2 * number, check) for number, check in enumerate(self._checks) if check.repeated)

    def failure(self, code: int, row: Sequence[str], found: str | None) -> Failure:
        """Why a row is rejected. The reasons of keys and types do not contain the value."""
        check = self._checks[code // 2]
        reason = check.inexact if code % 2 else check.reason
        if check.inexact and check.name not in self._protected:
            reason = f"{reason} (the value's length is {len(row[check.index])})"
        return Failure(check.name, check.rule, reason if found is None else f"{check.rule}: {reason}, found {found}")
