"""What sources, landing zone and warehouse have to hold, in plain Python: the state machine's model.

It shares no code with the product. A table is its columns, its key and its rows as text; a `Take` is one source as it
was when it was landed; `Model` has what is landed and loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation

INTEGERS = ("smallint", "integer", "bigint")
DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}  # that the largest value has
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
Rows = list[tuple[str | None, ...]]


@dataclass(frozen=True)
class Table:
    """`columns`: type by name, in order. A type is None until the product has inferred it (CSV files)."""

    columns: dict[str, str | None]
    key: tuple[str, ...]
    rows: Rows

    def typed(self, types: dict[str, str]) -> Table:
        return replace(self, columns={name: type_ or types[name] for name, type_ in self.columns.items()})

    def has_values(self, column: str) -> bool:
        """Whether one is not NULL."""
        place = [*self.columns].index(column)
        return any(row[place] is not None for row in self.rows)


@dataclass(frozen=True)
class Take:
    """One source as it was when it was landed, by the run that landed it."""

    tables: dict[str, Table]
    run_id: str = ""
    declared: tuple[str, ...] = ()  # sources that its date needs, as its manifest records them
    bases: dict[str, tuple[str, str]] = field(default_factory=dict)  # date and run of an increment's base, by table
    parts: dict[str, Table] = field(default_factory=dict)  # rows that were added to a base, by table
    clashes: tuple[str, ...] = ()  # columns whose types on the dates of their chain no type has to hold
    revealed: dict[str, Table] = field(default_factory=dict)  # tables with encrypted columns in plain
    ways: dict[str, dict[str, str]] = field(default_factory=dict)  # how the date's columns are protected, by table
    rejected: dict[str, list[tuple[int, str]]] = field(default_factory=dict)  # lines and rules, by table


@dataclass
class Schema:
    """What was loaded into one schema of the warehouse."""

    loaded: dict[tuple[str, str], Take] = field(default_factory=dict)  # by (source, date)

    evidence: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # of a CSV column, by table and column

    def load(self, source: str, day: str, take: Take) -> None:
        if source == "csv" and self.loaded.get((source, day)) != take:
            for name, table in take.tables.items():
                for place, column in enumerate(table.columns):
                    values = {row[place] for row in table.rows} - {None}
                    kind = "nothing" if not values else "number" if all(map(NUMBER.fullmatch, values)) else "other"
                    self.evidence.setdefault((name, history_name(column)), []).append(kind)
        self.loaded[source, day] = take

    def numbers(self) -> list[tuple[str, str]]:
        """Columns of CSV files that began as numbers and never had anything else: no evidence changes no type."""
        return [at for at, kinds in self.evidence.items() if kinds[0] == "number" and "other" not in kinds]

    def days(self, source: str) -> list[str]:
        return sorted(day for name, day in self.loaded if name == source)

    def newest(self, source: str) -> str | None:
        """The date that the source's views show."""
        return max(self.days(source), default=None)

    def sources(self) -> list[str]:
        return sorted({source for source, _ in self.loaded})

    def ledger(self) -> set[tuple[str, str, str, int, str]]:
        """Its lines: source, date, table, rows, run."""
        return {(source, day, name, len(table.rows), take.run_id)
                for (source, day), take in self.loaded.items() for name, table in placed(source, take).items()}

    def partitions(self) -> set[tuple[str, str]]:
        return {(name, day) for (source, day), take in self.loaded.items() for name in placed(source, take)}

    def views(self) -> dict[str, Table | None]:
        """What each view shows; None: the source's newest date no longer has the table, so the view is empty."""
        shown: dict[str, Table | None] = {}
        for (source, _), take in self.loaded.items():
            newest = placed(source, self.loaded[source, self.newest(source)])
            shown.update({name: newest.get(name) for name in placed(source, take)})
        return shown


@dataclass
class Model:
    """All that is landed and loaded."""

    declared: tuple[str, ...]  # sources of the project now
    landed: dict[tuple[str, str], Take] = field(default_factory=dict)  # by (source, date)
    schemas: dict[str, Schema] = field(default_factory=dict)
    leftovers: set[tuple[str, str]] = field(default_factory=set)  # dates in which a kill may have left files
    killed: bool = False  # so that staging folders and tables may be left

    def frozen(self, source: str, day: str, today: str) -> bool:
        """Whether an ordinary run keeps the date as it is."""
        return day < today and (source, day) in self.landed

    def to_record(self, source: str, day: str, today: str) -> tuple[str, ...]:
        """What a manifest has to record as the sources of its date: for a past one, those that the date had."""
        there = self._of(day)
        if day >= today or not there:
            return self.declared
        before = [there[source]] if source in there else [*there.values()]
        return _union([*(take.declared for take in before), (source,)])

    def needed(self, day: str, today: str) -> tuple[str, ...]:
        """Sources of a date: one that was added later is not missing, and counts where it was landed all the same."""
        there = self._of(day)
        now = [self.declared] if day >= today or not there else []
        return _union([*now, *(take.declared for take in there.values()), (*there,)])

    def whole(self, source: str, take: Take) -> bool:
        """Whether all that its increments stand on is landed as it was then."""
        return all(self.stands(source, take, name) for name in take.bases)

    def stands(self, source: str, take: Take, name: str) -> bool:
        """Whether all that a table stands on is landed as it was then."""
        if name not in take.bases:
            return True
        day, run_id = take.bases[name]
        base = self.landed.get((source, day))
        return base is not None and base.run_id == run_id and self.stands(source, base, name)

    def chain(self, source: str, take: Take, name: str) -> list[Take]:
        """The takes that make up a table, the whole one first. Raises KeyError where one is not landed."""
        if name not in take.bases:
            return [take]
        return [*self.chain(source, self.landed[source, take.bases[name][0]], name), take]

    def base(self, source: str, day: str, name: str) -> tuple[str, Take] | None:
        """The newest earlier date that has a table."""
        days = [at for of, at in self.landed if of == source and at < day and name in self.landed[of, at].tables]
        return (max(days), self.landed[source, max(days)]) if days else None

    def bases(self) -> set[tuple[str, str]]:
        """Landed dates that others stand on, by (source, date)."""
        return {(source, day) for (source, _), take in self.landed.items() for day, run_id in take.bases.values()
                if (source, day) in self.landed and self.landed[source, day].run_id == run_id}

    def _of(self, day: str) -> dict[str, Take]:
        return {source: take for (source, at), take in self.landed.items() if at == day}

    def schema(self, name: str) -> Schema:
        return self.schemas.setdefault(name, Schema())


def placed(source: str, take: Take) -> dict[str, Table]:
    """Tables by their name in the warehouse: `crm/name` for those of crm, which have a schema of their own there."""
    return {f"crm/{name}" if source == "crm" else name: table for name, table in take.tables.items()}


def _union(names: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({one for some in names for one in some}))


def history_name(column: str) -> str:
    """A source's column in history, where `extracted_at` is the date."""
    return column + "_" if re.fullmatch("extracted_at_*", column) else column


def must_widen(old: str, new: str) -> bool:
    """Whether history of one type has to take a date of the other. What is False here the product may refuse."""
    if old == new or "text" in (old, new) or {old, new} <= {*INTEGERS}:
        return True
    if {old, new} == {"real", "double precision"}:
        return True
    if all(type_.startswith("character varying") for type_ in (old, new)):
        return True
    numbers = [numeric(type_) for type_ in (old, new)]
    if all(numbers):
        return True
    stamps = [re.fullmatch(r"timestamp(\(\d\))? (with(?:out)? time zone)", type_) for type_ in (old, new)]
    return all(stamps) and stamps[0][2] == stamps[1][2]


def hold_both(old: str, new: str) -> str:
    """A type for the values of both."""
    if old == new:
        return old
    if {old, new} <= {*INTEGERS}:
        return max(old, new, key=INTEGERS.index)
    return "numeric" if numeric(old) and numeric(new) else "text"


def numeric(type_: str) -> tuple[int, int] | None:
    """Digits before and behind the point of an exact number's type; None of any other."""
    if type_ in INTEGERS:
        return DIGITS[type_], 0
    match = re.fullmatch(r"numeric(?:\((\d+),(\d+)\))?", type_)
    if not match:
        return None
    return (int(match[1]) - int(match[2]), int(match[2])) if match[1] else (1000, 1000)


def comparable(rows: Rows, types: list[str], stored: list[str]) -> Rows:
    """Rows of columns of these types as they have to be found where their columns are `stored` with other types."""
    return sorted((tuple(map(_comparable, row, types, stored)) for row in rows), key=repr)


def _comparable(text: str | None, type_: str, stored: str) -> str | None:
    if text is None or (stored == type_ and not stored.startswith("numeric(")):
        return text
    if stored in {*INTEGERS, "real", "double precision"} or numeric(stored):
        try:
            return repr(Decimal(text).normalize())
        except InvalidOperation:
            return text
    return text


def found(rows: Rows, types: list[str], stored: list[str]) -> Rows:
    """Rows as they were found, in the form that comparable() gives the expected ones."""
    both = ["" if type_ != kept else kept for type_, kept in zip(types, stored, strict=True)]
    return comparable(rows, both, stored)
