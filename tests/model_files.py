"""CSV entities as they have to be landed, in plain Python: a part of the state machine's model.

An entity's rules are data: the setting for tap-csv has them by name, and functions say here what each of them means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation

from model import Rows, Table, hold_both

Row = dict[str, str | None]
Rejected = list[tuple[int, str]]  # line and rule of each rejected row
REPLACE, APPEND = "replace", "append"
FAIL, QUARANTINE, KEEP_FIRST, KEEP_LAST = "fail", "quarantine", "keep_first", "keep_last"


class Refused(Exception):  # noqa: N818 (of a whole file, not an error of the test)
    """Raised if no row of an entity may be landed; its text says why."""


@dataclass(frozen=True)
class Contract:
    """`setting`: of the entity. `types`: of columns, as conditions of their texts. `rules`: in order, by name.

    `unique`: a column. `normalized`: functions by column. `derived`: functions by new column.
    """

    setting: Mapping[str, object]
    types: Mapping[str, Callable[[str], bool]]
    rules: tuple[tuple[str, Callable[[Row], bool]], ...]
    unique: str
    normalized: Mapping[str, Callable[[str], str]] = field(default_factory=dict)
    derived: Mapping[str, Callable[[Row], str | None]] = field(default_factory=dict)

    def read(self, row: Row) -> Row:
        """A row with its normalized values."""
        return row | {name: normalize(row[name]) for name, normalize in self.normalized.items() if row[name]}

    def broken(self, row: Row) -> str | None:
        """The first rule that a row breaks by itself."""
        if any(not fits(row[name]) for name, fits in self.types.items() if row[name] is not None):
            return "type"
        return next((name for name, kept in self.rules if not kept(row)), None)


@dataclass(frozen=True)
class Landing:
    """What is landed: the table's part in the date's files, the rejected rows, whether it replaces earlier keys."""

    part: Table
    rejected: Rejected
    appended: bool = False


@dataclass(frozen=True)
class Entity:
    """An entity of CSV files, with its options."""

    name: str
    keys: tuple[str, ...] = ()
    load: str = REPLACE
    on_duplicate_key: str = FAIL
    on_bad_rows: str = FAIL
    contract: Contract | None = None
    protect: Mapping[str, str] = field(default_factory=dict)  # besides what the source protects

    def setting(self) -> dict[str, object]:
        """Its entry in `files` of tap-csv."""
        return {"entity": self.name, "path": f"extract/{self.name}.csv", "keys": [*self.keys], "load": self.load,
                "on_duplicate_key": self.on_duplicate_key, "on_bad_rows": self.on_bad_rows,
                "protect": {**self.protect}, **(self.contract.setting if self.contract else {})}

    @property
    def quarantines(self) -> bool:
        return QUARANTINE in (self.on_bad_rows, self.on_duplicate_key)

    def landing(self, header: list[str], rows: list[list[str | None]], base: Table | None) -> Landing:
        """What a file gives; `base`: the table that its rows are added to, with keys in plain. Raises Refused."""
        if missing := {*self.keys} - {*header}:
            raise Refused(f"no column {missing}")
        numbered = [(line, dict(zip(header, row, strict=True))) for line, row in _lines(header, rows)]
        kept, rejected = self._good(numbered)
        if rejected and self.on_bad_rows == FAIL:
            raise Refused(f"rejected rows: {rejected}")
        kept, repeated = self._without_duplicates(kept, base)
        if repeated and self.on_duplicate_key == FAIL:
            raise Refused(f"keys that come twice, in lines {repeated}")
        if self.on_duplicate_key == QUARANTINE:
            rejected = [*rejected, *((line, "key") for line in repeated)]
        if rejected and not kept and self.on_bad_rows == QUARANTINE:
            raise Refused("all rows are rejected")
        columns = [*header, *(self.contract.derived if self.contract else ())]
        found = Table(dict.fromkeys(columns), self.keys, [tuple(row[name] for name in columns) for _, row in kept])
        return Landing(found, sorted(rejected), base is not None)

    def _good(self, numbered: list[tuple[int, Row]]) -> tuple[list[tuple[int, Row]], Rejected]:
        """Rows that keep types and rules, and the others."""
        kept, rejected, values = [], [], set()
        for line, row in numbered:
            rule = "key" if any(row[key] is None for key in self.keys) else None
            if self.contract:
                row = self.contract.read(row)
                rule = rule or self.contract.broken(row)
                if rule is None and row[self.contract.unique] in values:
                    rule = "unique"
            if rule:
                rejected.append((line, rule))
                continue
            if self.contract:
                values.add(row[self.contract.unique])
                row = row | {name: value(row) for name, value in self.contract.derived.items()}
            kept.append((line, row))
        return kept, rejected

    def _without_duplicates(self, rows: list[tuple[int, Row]], base: Table | None
                            ) -> tuple[list[tuple[int, Row]], list[int]]:
        """One row of each key, and the lines of the others; keys of the base count unless the last row is kept."""
        if not self.keys:
            return rows, []
        last = self.on_duplicate_key == KEEP_LAST
        found: dict[tuple, tuple[int, Row]] = {}
        known = {*keys_of(base)} if base and not last else set()
        for line, row in rows if last else reversed(rows):
            found[tuple(row[key] for key in self.keys)] = line, row
        kept = sorted((one for key, one in found.items() if key not in known), key=lambda one: one[0])
        return kept, sorted({line for line, _ in rows} - {line for line, _ in kept})


def added(base: Table, part: Table) -> Table:
    """A base with a part's rows, in place of those of their keys."""
    columns = {name: _type(base, part, name) for name in [*base.columns, *part.columns]}
    new = {*keys_of(part)} if part.key else set()
    kept = [row for row, key in zip(base.rows, keys_of(base), strict=True) if key not in new]
    rows = [*_aligned(replace(base, rows=kept), columns), *_aligned(part, columns)]
    return Table(columns, part.key, rows)


def keys_of(table: Table) -> list[tuple]:
    """The key of each row."""
    places = [[*table.columns].index(name) for name in table.key]
    return [tuple(row[place] for place in places) for row in table.rows]


def _type(base: Table, part: Table, name: str) -> str | None:
    types = [table.columns[name] for table in (base, part) if name in table.columns and (
        table.has_values(name) or name not in base.columns or name not in part.columns)]
    return hold_both(*types) if len(types) == 2 else types[0] if types else part.columns[name]


def _aligned(table: Table, columns: Mapping[str, str | None]) -> Rows:
    places = {name: place for place, name in enumerate(table.columns)}
    return [tuple(row[places[name]] if name in places else None for name in columns) for row in table.rows]


def _lines(header: list[str], rows: list[list[str | None]]) -> list[tuple[int, list[str | None]]]:
    """Rows with the line of the file at which each begins."""
    found, line = [], 2 + sum(name.count("\n") for name in header)
    for row in rows:
        found.append((line, row))
        line += 1 + sum(value.count("\n") for value in row if value)
    return found


# Orders, and what they keep.

STATES = ("open", "closed")


def _numeric(text: str) -> bool:
    """Whether numeric(6,2) holds a text exactly."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return False
    return value == value.quantize(Decimal("0.01")) and abs(value) < 10_000


def _amount(row: Row) -> Decimal | None:
    return None if row["amount"] is None else Decimal(row["amount"])


ORDERS = Contract(
    setting={
        "columns": {
            "id": {"type": "integer", "required": True, "unique": True, "maximum": 50},
            "amount": {"type": "numeric(6,2)", "minimum": 0, "exclusiveMaximum": 1000},
            "state": {"type": "text", "normalize": ["trim", "lower"], "enum": [*STATES]},
            "code": {"pattern": "[A-Z]{2}[0-9]*", "minLength": 3, "maxLength": 5},
            "doubled": {"type": "numeric(7,2)"}},
        "derive": {"doubled": "amount * 2"},
        "checks": {"closed_has_amount": "state <> 'closed' OR amount IS NOT NULL"}},
    types={"id": lambda text: bool(re.fullmatch(r"-?\d{1,9}", text)), "amount": _numeric},
    rules=(
        ("required", lambda row: row["id"] is not None),
        ("maximum", lambda row: int(row["id"]) <= 50),
        ("minimum", lambda row: row["amount"] is None or _amount(row) >= 0),
        ("exclusiveMaximum", lambda row: row["amount"] is None or _amount(row) < 1000),
        ("enum", lambda row: row["state"] is None or row["state"] in STATES),
        ("pattern", lambda row: row["code"] is None or bool(re.fullmatch("[A-Z]{2}[0-9]*", row["code"]))),
        ("minLength", lambda row: row["code"] is None or len(row["code"]) >= 3),
        ("maxLength", lambda row: row["code"] is None or len(row["code"]) <= 5),
        ("closed_has_amount", lambda row: row["state"] != "closed" or row["amount"] is not None)),
    unique="id",
    normalized={"state": lambda text: text.strip(" \t\r\n").lower()},
    derived={"doubled": lambda row: None if row["amount"] is None else f"{2 * _amount(row):.2f}"})
