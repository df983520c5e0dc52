"""The canonical text of a value: the same for 1, 1.0 and '1', so that tokens join what values would.

It is the text of the landing zone but for numbers (without superfluous zeros), booleans (`t` or `f`), `character`
(without padding) and `uuid` (in lower case). Dates and all else are as their texts are.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from landing.model.schema import INTEGERS

FLOATS = {"real", "double precision"}
TRUE = (b"t", b"y", b"1", b"on")


def canonical(type_: str) -> Callable[[bytes], bytes]:
    """The function for values of a type."""
    name = type_.partition("(")[0]
    if type_.endswith("[]"):
        return bytes
    if name in INTEGERS or name in FLOATS or name in ("numeric", "oid"):
        return _number
    return {"boolean": _boolean, "character": _unpadded, "bpchar": _unpadded, "uuid": bytes.lower}.get(name, bytes)


def _number(value: bytes) -> bytes:
    if value.isdigit() and value[0] != 0x30:
        return value
    try:
        text = f"{Decimal(value.decode()):f}"
    except InvalidOperation:
        return value
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return (text if text not in ("-0", "") else "0").encode()


def _unpadded(value: bytes) -> bytes:
    return value.rstrip(b" ")


def _boolean(value: bytes) -> bytes:
    return b"t" if value.strip().lower().startswith(TRUE) else b"f"
