"""Reads Singer messages strictly: one per line, in UTF-8, with all required fields and every digit of its numbers.

Python's JSON parser loses data without an error: it keeps the last of two equal keys, and accepts NaN and lone
surrogates.
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
LONGEST = 64 << 20  # bytes of a line; an endless one would fill the memory
DIGITS_BEFORE, DIGITS_AFTER = 131072, 16383  # the point, in PostgreSQL's numeric
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

REQUIRED = {
    "SCHEMA": {"stream": str, "schema": dict},
    "RECORD": {"stream": str, "record": dict},
    "STATE": {"value": (dict, type(None))},
    "ACTIVATE_VERSION": {"stream": str, "version": int},
    "BATCH": {"stream": str, "encoding": dict, "manifest": list},
}


class BadLineError(ValueError):
    """A message is not valid. The target adds the line's number."""


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
        """Pass each message to its callback. Raises BadLineError, or what the callback raises."""
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
        for name, kind in REQUIRED[_type(message)].items():
            if name not in message or not isinstance(message[name], kind):
                raise BadLineError(f"a {message['type']} without a valid {name!r}")
        if message["type"] == "SCHEMA":
            _check_schema(message)
        return message


def _lines(file: IO) -> Iterator[bytes | str]:
    """Lines, as bytes if possible: a text file has the locale's encoding. Long lines are cut."""
    file = getattr(file, "buffer", file)
    return iter(partial(file.readline, LONGEST + 1), file.read(0))


def parse(line: bytes | str) -> dict[str, Any]:
    """The JSON object in a line. Raises BadLineError if it is not one, or cannot be read without loss."""
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
        raise BadLineError("it is JSON but not an object")
    if SURROGATE.search(text):
        _refuse_surrogates(value)
    return value


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if number.adjusted() >= DIGITS_BEFORE or -number.as_tuple().exponent > DIGITS_AFTER:
        raise BadLineError("it has a number with more digits than PostgreSQL's numeric holds")
    return number


def _no_constant(name: str) -> None:
    raise BadLineError(f"it has {name}, which is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise BadLineError(f"it has {twice!r} twice in one object")
    return value


DECODER = json.JSONDecoder(parse_float=_number, parse_constant=_no_constant, object_pairs_hook=_object)


def _refuse_surrogates(value: Any) -> None:
    try:
        json_text(value).encode()
    except UnicodeEncodeError:
        raise BadLineError("it has a lone surrogate (\\ud800 to \\udfff), which is not a character") from None


def _type(message: Mapping[str, Any]) -> str:
    type_ = message.get("type")
    if not isinstance(type_, str) or type_ not in REQUIRED:
        raise BadLineError(f"its type is {type_!r:.40}, expected one of {', '.join(REQUIRED)}")
    return type_


def _check_schema(message: Mapping[str, Any]) -> None:
    properties, keys = message["schema"].get("properties"), message.get("key_properties") or []
    if not isinstance(properties, dict) or not all(isinstance(one, dict) for one in properties.values()):
        raise BadLineError(f"the SCHEMA of {message['stream']} has no valid 'properties'")
    if "" in (message["stream"], *properties):
        raise BadLineError(f"the SCHEMA of {message['stream']!r} has an empty name")
    if not isinstance(keys, list) or not all(isinstance(name, str) and name in properties for name in keys):
        raise BadLineError(f"'key_properties' of {message['stream']} names columns that its SCHEMA lacks")


def records(url: str, compression: str | None) -> Iterator[dict[str, Any]]:
    """Records of a file in the SDK's encoding jsonl."""
    try:
        with UPath(url).open("rb") as stored, _decompressed(stored, compression) as file:
            for number, line in enumerate(_lines(file), 1):
                yield _parse_in_file(line, f"{url}, line {number}")
    except (OSError, EOFError, zlib.error, ImportError) as error:
        raise BadLineError(f"{url}, which a BATCH names, cannot be read completely ({error})") from None


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
    raise BadLineError(f"compression {compression!r} is not supported")
