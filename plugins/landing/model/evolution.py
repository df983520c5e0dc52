"""Schema evolution: the type that holds every value of two types, for columns that change from date to date.

A value is widened through its text, so an old partition holds after the change what COPY would read from its file. The
text must keep its meaning: a `date` is not a `timestamp`, and the `real` 0.1 becomes the `double precision` 0.1.
"""

from __future__ import annotations

import re

from landing.model.schema import INTEGERS

# A type as format_type() writes it: its name (the parts before and after the modifiers) and up to two modifiers.
PARTS = re.compile(r"([^(]+)(?:\((-?\d+)(?:, ?(-?\d+))?\))?(.*)")
DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
FLOATS = {"smallint": "real", "integer": "double precision"}  # smallest type that holds every value, by integer type
STRINGS = {"character", "bpchar", "character varying"}
BITS = {"bit", '"bit"', "bit varying"}

# Of two types with one of these names, the one with the larger modifier, or without a modifier, holds both.
SIZED = re.compile("character( varying)?|bit varying|time(stamp)? with(out)? time zone|interval( second|.* to second)?")


def widened(old: str, new: str) -> str | None:
    """The type that holds every value of both types, or None if there is none."""
    if old == new:
        return old
    if "text" in (old, new):
        return "text"
    if old.endswith("[]") and new.endswith("[]"):
        element = widened(old.removesuffix("[]"), new.removesuffix("[]"))
        return None if element in (None, "text") else f"{element}[]"
    (a, first), (b, second) = _parsed(old), _parsed(new)
    if a == b and SIZED.fullmatch(a):
        return old if not first or (second and first > second) else new
    if {a, b} <= STRINGS:
        return _longest("character varying", first, second) if "character varying" in (a, b) else "bpchar"
    if {a, b} <= BITS:
        return _longest("bit varying", first, second)
    if a.startswith("interval") and b.startswith("interval"):
        return "interval"
    return _number(a, first, b, second)


def cast_keeps_text(old: str, new: str) -> bool:
    """Whether PostgreSQL's cast to the wider type gives the same value as the text does."""
    return new != "text" and (old in INTEGERS or _parsed(old)[0] == _parsed(new)[0])


def _parsed(type_: str) -> tuple[str, list[int]]:
    name, *modifiers, rest = PARTS.fullmatch(type_).groups()
    return name + rest, [int(one) for one in modifiers if one is not None]


def _longest(name: str, *lengths: list[int]) -> str:
    """The type with the greater length; without a length if one of them is unlimited."""
    return f"{name}({max(lengths)[0]})" if all(lengths) else name


def _number(a: str, first: list[int], b: str, second: list[int]) -> str | None:
    if a in INTEGERS and b in INTEGERS:
        return max(a, b, key=INTEGERS.__getitem__)
    floats = {FLOATS.get(name, name) for name in (a, b)}
    if floats <= {*FLOATS.values()}:
        return max(floats, key=[*FLOATS.values()].index)
    if not {a, b} <= {*DIGITS, "numeric"}:
        return None
    sizes = [(DIGITS[name], 0) if name in DIGITS else (*modifiers, 0)[:2] if modifiers else None
             for name, modifiers in ((a, first), (b, second))]
    # Another scale would change the digits after the decimal point.
    if None in sizes or sizes[0][1] != sizes[1][1]:
        return "numeric"
    return "numeric({},{})".format(*max(sizes))
