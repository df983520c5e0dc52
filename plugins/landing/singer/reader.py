"""Singer messages as a target reads them: a line each, refused where it can't be taken as it was meant.

Python's JSON forgives what loses data: of two equal keys it takes the last, NaN is a number to it, and half a surrogate
a character. Here a line is UTF-8, holds one message with all that belongs to its type, and keeps every digit.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import IO, Any, TypeVar

import msgspec
from singer_sdk.singerlib.encoding import GenericSingerReader
from upath import UPath

from landing.model.csv_dialect import json_text

T = TypeVar("T")
LONGEST = 64 << 20  # bytes of a line: one that never ends would take all memory
DIGITS_BEFORE, DIGITS_AFTER = 131072, 16383  # the point, in PostgreSQL's numeric
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

NEEDED = {
    "SCHEMA": {"stream": str, "schema": dict},
    "RECORD": {"stream": str, "record": dict},
    "STATE": {"value": (dict, type(None))},
    "ACTIVATE_VERSION": {"stream": str, "version": int},
    "BATCH": {"stream": str, "encoding": dict, "manifest": list},
}


class BadLineError(ValueError):
    """Why a message can't be taken; who reads the lines knows which one it was."""


def converted(raw: Any, type_: type[T], what: str) -> T:
    """A part of a message as its type. Raises BadLineError if it does not match."""
    try:
        return msgspec.convert(raw, type_)
    except msgspec.ValidationError as error:
        raise BadLineError(f"{what} is not valid: {error}") from None


class Reader(GenericSingerReader[bytes]):
    """Reads a tap's messages; `line` is the number of the one that is being processed."""

    line = 0

    @property
    def default_input(self) -> IO[bytes]:
        return sys.stdin.buffer

    def process_lines(self, file_input: IO | None, callbacks: Mapping[str, Callable[[dict], None]]) -> Counter[str]:
        """Hand every message to its callback; BadLineError, or what the callback raises, where that can't be done."""
        stats: Counter[str] = Counter()
        for line in _lines(file_input or self.default_input):
            self.line += 1
            message = self.deserialize_json(line)
            callbacks[message["type"]](message)
            stats[message["type"]] += 1
        return stats

    def deserialize_json(self, line: bytes | str) -> dict[str, Any]:
        """The message in a line."""
        message = parse(line)
        for name, kind in NEEDED[_type(message)].items():
            if name not in message or not isinstance(message[name], kind):
                raise BadLineError(f"a {message['type']} without a usable {name!r}")
        if message["type"] == "SCHEMA":
            _look_at_schema(message)
        return message


def _lines(file: IO) -> Iterator[bytes | str]:
    """Lines as bytes where there are any, since a text file has its encoding from the locale; long ones are cut."""
    file = getattr(file, "buffer", file)
    return iter(partial(file.readline, LONGEST + 1), file.read(0))


def parse(line: bytes | str) -> dict[str, Any]:
    """The one JSON object in a line, with all that it says; else BadLineError."""
    if len(line) > LONGEST:
        raise BadLineError(f"it is longer than {LONGEST >> 20} MiB; send such values in files (BATCH)")
    try:
        text = line.decode() if isinstance(line, bytes) else line
        value = DECODER.decode(text)
    except BadLineError:
        raise
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadLineError(f"it is not JSON in UTF-8, or was cut short ({error})") from None
    except (ValueError, ArithmeticError):
        raise BadLineError("it has a number with thousands of digits") from None
    except RecursionError:
        raise BadLineError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise BadLineError("it is JSON, and not an object")
    if SURROGATE.search(text):
        _look_for_halves(value)
    return value


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if number.adjusted() >= DIGITS_BEFORE or -number.as_tuple().exponent > DIGITS_AFTER:
        raise BadLineError("it has a number with more digits than PostgreSQL's numeric holds")
    return number


def _no_constant(name: str) -> None:
    raise BadLineError(f"it has {name}, which is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise BadLineError(f"it has {twice!r} twice in one object")
    return value


DECODER = json.JSONDecoder(parse_float=_number, parse_constant=_no_constant, object_pairs_hook=_object)


def _look_for_halves(value: Any) -> None:
    try:
        json_text(value).encode()
    except UnicodeEncodeError:
        raise BadLineError("it has half a surrogate pair (\\ud800 to \\udfff), which is no character") from None


def _type(message: Mapping[str, Any]) -> str:
    type_ = message.get("type")
    if not isinstance(type_, str) or type_ not in NEEDED:
        raise BadLineError(f"its type is {type_!r:.40}, and has to be one of {', '.join(NEEDED)}")
    return type_


def _look_at_schema(message: Mapping[str, Any]) -> None:
    properties, keys = message["schema"].get("properties"), message.get("key_properties") or []
    if not isinstance(properties, dict) or not all(isinstance(one, dict) for one in properties.values()):
        raise BadLineError(f"the SCHEMA of {message['stream']} has no usable 'properties'")
    if "" in (message["stream"], *properties):
        raise BadLineError(f"the SCHEMA of {message['stream']!r} has an empty name")
    if not isinstance(keys, list) or not all(isinstance(name, str) and name in properties for name in keys):
        raise BadLineError(f"'key_properties' of {message['stream']} names what its SCHEMA does not have")


def records(url: str, compression: str | None) -> Iterator[dict[str, Any]]:
    """Records of a file in the SDK's own encoding (jsonl), one by one."""
    try:
        with UPath(url).open("rb") as stored, _decompressed(stored, compression) as file:
            for number, line in enumerate(_lines(file), 1):
                yield _parse_in_file(line, f"{url}, line {number}")
    except (OSError, EOFError, zlib.error, ImportError) as error:
        raise BadLineError(f"{url}, which a BATCH names, can't be read to its end ({error})") from None


def _parse_in_file(line: bytes | str, where: str) -> dict[str, Any]:
    try:
        return parse(line)
    except BadLineError as error:
        raise BadLineError(f"{where}: {error}") from None


def _decompressed(file: IO[bytes], compression: str | None) -> IO[bytes]:
    if compression in (None, "none"):
        return file
    if compression == "gzip":
        return gzip.GzipFile(fileobj=file)
    raise BadLineError(f"compression {compression!r} is not known")
