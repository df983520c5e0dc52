"""Values of declared types that DuckDB cannot judge, checked in Python.

PostgreSQL stores such a value as it is or rejects it: what passes here is a value that it stores. A few spellings that
it reads as well do not pass (`10.1/16` as cidr, arrays with explicit bounds, XML with a DOCTYPE).
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, NoReturn
from xml.parsers import expat

from landing.model.declared_types import NOT_FINITE, NUMBER, SHAPES, SPACE, Declared
from landing.model.schema import INTEGERS

Judge = Callable[[str], bool]
HEX = "[0-9A-Fa-f]"
TEXTS = ("text", "bpchar", "character varying")
PATTERNS = {
    "bytea": rf"\\x({HEX}{{2}})*|(?!\\x)([^\\]|\\\\|\\[0-3][0-7]{{2}})*",
    "macaddr": (f"({HEX}{{1,2}}:){{5}}{HEX}{{1,2}}|({HEX}{{1,2}}-){{5}}{HEX}{{1,2}}|{HEX}{{6}}[:-]?{HEX}{{6}}|"
                rf"({HEX}{{4}}\.){{2}}{HEX}{{4}}|({HEX}{{4}}-){{2}}{HEX}{{4}}"),
    "macaddr8": (f"({HEX}{{2}}:){{5}}(({HEX}{{2}}:){{2}})?{HEX}{{2}}|({HEX}{{2}}-){{5}}(({HEX}{{2}}-){{2}})?{HEX}{{2}}|"
                 f"{HEX}{{16}}"),
    "pg_lsn": f"{HEX}{{1,8}}/{HEX}{{1,8}}",
    "bit varying": "[01]*",
    '"bit"': "[01]*",
    **SHAPES,
}
ADDRESS = re.compile(f"({HEX}|[.:])+(/(0|[1-9][0-9]{{0,2}}))?")
BOUND = r'([^,"\\()\[\]]*)'
RANGE = re.compile(rf"([\[(]){BOUND},{BOUND}([\])])")
RANGES = {"int4range": "integer", "int8range": "bigint", "numrange": "numeric"}
NUMERIC = f"{NUMBER}|{NOT_FINITE.removeprefix('(?i)')}"
DIMENSIONS = 6
_S = f"[{SPACE}]*"
BARE = rf'[^{SPACE},{{}}"\\]'
ITEM = re.compile(rf'{_S}(?:"((?:[^"\\]|\\.)*)"|({BARE}(?:[^,{{}}"\\]*{BARE})?)){_S}', re.S)
OPEN, CLOSE = re.compile(_S + r"\{"), re.compile(_S + r"\}" + _S)
XML_DECLARATION = re.compile(r'\A<\?xml version="1\.[01]"( encoding="(?i:utf-8)")?( standalone="(yes|no)")?\s*\?>')


def judge(type_: str) -> Judge | None:
    """A function that tells whether PostgreSQL certainly stores a text as a type; None if only PostgreSQL can tell."""
    declared = Declared.of(type_)
    element = _of_element(declared)
    return partial(_is_array, element) if declared.array and element else element


def holds_all(declared: Declared) -> bool:
    """Whether a type holds every text."""
    return declared.name in TEXTS and declared.length is None and not declared.array


def _of_element(declared: Declared) -> Judge | None:
    name, length = declared.name, declared.length
    if length is not None and (declared.array or name != "bit varying"):
        return None
    if name in PATTERNS:
        pattern = re.compile(PATTERNS[name], re.S | re.A)
        return lambda text: bool(pattern.fullmatch(_trimmed(name, text))) and (length is None or len(text) <= length)
    if name in INTEGERS:
        return partial(_is_integer, 8 * INTEGERS[name])
    if name == "numeric":
        return _is_numeric
    if name in RANGES:
        return partial(_is_range, RANGES[name])
    return JUDGES.get(name)


def _trimmed(name: str, text: str) -> str:
    return text.strip(SPACE) if name == "boolean" else text


def _is_integer(bits: int, text: str) -> bool:
    text = text.strip(SPACE)
    return bool(re.fullmatch("[+-]?[0-9]{1,30}", text)) and -(1 << bits - 1) <= int(text) < 1 << bits - 1


def _is_numeric(text: str) -> bool:
    return len(text) <= 1000 and bool(re.fullmatch(NUMERIC, text.strip(SPACE), re.I | re.A))


def _is_range(type_: str, text: str) -> bool:
    if text.strip(SPACE).lower() == "empty":
        return True
    if not (found := RANGE.fullmatch(text.strip(SPACE))):
        return False
    is_element = _of_element(Declared.of(type_))
    bounds = [found[2], found[3]]
    if not all(not bound or (is_element(bound) and re.fullmatch(NUMBER, bound.strip(SPACE))) for bound in bounds):
        return False
    lower, upper = (Decimal(bound.strip(SPACE)) if bound else None for bound in bounds)
    if lower is not None and upper is not None and lower > upper:
        return False
    limit = 0 if type_ == "numeric" else 1 << 8 * INTEGERS[type_] - 1
    # Bounds of integers become [lower, upper), so one may be increased.
    return not limit or all(value is None or not moved or value + 1 < limit
                            for value, moved in ((lower, found[1] == "("), (upper, found[4] == "]")))


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _is_jsonb(text: str) -> bool:
    """Numbers are stored as numeric, and texts as UTF-8 without NUL."""
    try:
        value = json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return "\\u0000" not in text


def _number(text: str) -> str:
    return text if _is_numeric(text) else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError("not a value")


def _is_xml(text: str) -> bool:
    """Content: elements, text, comments and so on, in any number; namespaces must be declared."""
    if "<!DOCTYPE" in text:
        return False
    parser = expat.ParserCreate(namespace_separator=" ")
    try:
        parser.Parse(f"<content>{XML_DECLARATION.sub('', text, count=1)}</content>", True)
    except expat.ExpatError:
        return False
    return True


def _is_address(parse: Callable[[str], Any], text: str) -> bool:
    try:
        return bool(ADDRESS.fullmatch(text)) and bool(parse(text))
    except ValueError:
        return False


def _is_array(is_element: Judge, text: str) -> bool:
    try:
        _, end = _array(is_element, text, 0, 1)
    except ValueError:
        return False
    return end == len(text)


def _array(is_element: Judge, text: str, start: int, depth: int) -> tuple[tuple, int]:
    """The lengths of an array in each dimension, and where it ends. Raises ValueError if it is not one."""
    if depth > DIMENSIONS or not (opened := OPEN.match(text, start)):
        raise ValueError("no array")
    if closed := CLOSE.match(text, opened.end()):
        if depth > 1:
            raise ValueError("an empty array in an array")
        return (0,), closed.end()
    shapes, place = [], opened.end()
    while True:
        shape, place = _item(is_element, text, place, depth)
        shapes.append(shape)
        if closed := CLOSE.match(text, place):
            break
        if text[place : place + 1] != ",":
            raise ValueError("no comma")
        place += 1
    if len({*shapes}) > 1:
        raise ValueError("arrays of several shapes in an array")
    return (len(shapes), *shapes[0]), closed.end()


def _item(is_element: Judge, text: str, place: int, depth: int) -> tuple[tuple, int]:
    if OPEN.match(text, place):
        return _array(is_element, text, place, depth + 1)
    found = ITEM.match(text, place)
    if not found:
        raise ValueError("no element")
    if found[1] is not None:
        valid = is_element(re.sub(r"\\(.)", r"\1", found[1], flags=re.S))
    else:
        valid = found[2].upper() == "NULL" or is_element(found[2])
    if not valid:
        raise ValueError("not an element")
    return (), found.end()


JUDGES: dict[str, Judge] = {
    **dict.fromkeys(TEXTS, lambda text: True),
    "json": _is_json,
    "jsonb": _is_jsonb,
    "xml": _is_xml,
    "inet": partial(_is_address, ipaddress.ip_interface),
    "cidr": partial(_is_address, ipaddress.ip_network),
}
