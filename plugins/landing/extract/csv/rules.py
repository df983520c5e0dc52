"""Rules for the values of one column, in the terms of Frictionless Table Schema, as DuckDB conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from landing.extract.csv.typed_values import TEXTS, is_ordered, typed
from landing.model import equality
from landing.model.declared_types import Declared

BOUNDS = {"minimum": (">=", "at least"), "maximum": ("<=", "at most"),
          "exclusiveMinimum": (">", "more than"), "exclusiveMaximum": ("<", "less than")}
LENGTHS = {"minLength": (">=", "at least"), "maxLength": ("<=", "at most")}
REQUIRED, UNIQUE, ENUM, PATTERN = "required", "unique", "enum", "pattern"
RULES = (REQUIRED, UNIQUE, *BOUNDS, ENUM, PATTERN, *LENGTHS)


@dataclass(frozen=True)
class Rule:
    """A rule. `values`: the texts of an enum; else the bound, the pattern or the length; empty for a flag."""

    column: str
    name: str
    values: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """What it asks for, in words."""
        if self.name in BOUNDS:
            return f"{BOUNDS[self.name][1]} {self.values[0]}"
        if self.name in LENGTHS:
            return f"{LENGTHS[self.name][1]} {self.values[0]} characters"
        if self.name == ENUM:
            return f"one of {', '.join(map(repr, self.values))}"
        return {REQUIRED: "a value", UNIQUE: "a value that no earlier row has",
                PATTERN: f"a text that matches {''.join(self.values)!r}"}[self.name]


def declared(columns: Mapping[str, Mapping[str, Any]]) -> list[Rule]:
    """The rules of the setting `columns`, in order. Raises ValueError for a value that a rule cannot have."""
    return [Rule(column, name, values) for column, options in columns.items() for name, value in options.items()
            if name in RULES and (values := _values(f"columns.{column}.{name}", name, value)) is not None]


def _values(where: str, name: str, value: Any) -> tuple[str, ...] | None:
    """The values of a rule; None for a flag that is off."""
    if name in (REQUIRED, UNIQUE):
        if not isinstance(value, bool):
            raise ValueError(f"{where} is not true or false")
        return () if value else None
    if name in LENGTHS and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"{where}={value!r} is not a number of characters")
    if name == PATTERN and not isinstance(value, str):
        raise ValueError(f"{where}={value!r} is not a text")
    if name == ENUM and not (isinstance(value, (list, tuple)) and value):
        raise ValueError(f"{where} is not a list of values")
    values = value if name == ENUM else [value]
    if wrong := [one for one in values if isinstance(one, (bool, list, dict)) or one is None]:
        raise ValueError(f"{where} has {wrong[0]!r}, which is neither a text nor a number: put it in quotes")
    return tuple(map(str, values))


def misfit(rule: Rule, type_: str | None) -> str | None:
    """Why a rule does not fit a column's declared type (None: it has none), or None if it does."""
    if rule.name in BOUNDS and type_ is None:
        return "needs the column's type, since it compares by that. Declare the type beside it"
    if rule.name in BOUNDS and not is_ordered(type_):
        exact = " Declare numeric(p, s) of up to 38 digits" if Declared.of(type_).name == "numeric" else ""
        return f"does not fit the type {type_}, whose values it cannot compare.{exact}".rstrip(".")
    is_text = type_ is None or (Declared.of(type_).name in TEXTS and not Declared.of(type_).array)
    if rule.name in (PATTERN, *LENGTHS) and not is_text:
        return f"does not fit the type {type_}: it is for texts"
    return None


def broken(rule: Rule, type_: str | None, column: str) -> str:
    """DuckDB's condition that a value breaks a rule; `unique` is none of a single value."""
    if rule.name == REQUIRED:
        return f"{column} IS NULL"
    return f"{column} IS NOT NULL AND NOT coalesce({_kept(rule, type_, column)}, false)"


def _kept(rule: Rule, type_: str | None, column: str) -> str:
    if rule.name in BOUNDS:
        return f"{typed(type_, column)} {BOUNDS[rule.name][0]} {typed(type_, literal(rule.values[0]))}"
    if rule.name in LENGTHS:
        return f"length({column}) {LENGTHS[rule.name][0]} {rule.values[0]}"
    if rule.name == PATTERN:
        return f"regexp_full_match({column}, {literal(rule.values[0])})"
    same = equality.value(type_ or "text", column)
    return f"{same} IN ({', '.join(equality.value(type_ or 'text', literal(value)) for value in rule.values)})"


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"
