"""Protects values while a database writes its rows as CSV, without parsing them.

The database writes a protected value as a mark, and behind it the hexadecimal digits of its text in UTF-8. The mark is
random, and made after the rows are: no other field can contain it. So each occurrence is a protected value, wherever
it is in a line, and it ends with its digits.
"""

from __future__ import annotations

import binascii
import io
import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from landing.protection.methods import Method
from landing.storage.hashing import HashedFile

BYTES = 8  # of randomness in a mark
NUMBER = "{:03x}"  # of a column, behind it
KEPT, SHORT = 4096, 128  # values that are not made again, and their digits: this bounds memory


class Marks:
    """The marks of a table's protected columns."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        """`methods`: by column."""
        mark = secrets.token_hex(BYTES)
        self._marks = {name: mark + NUMBER.format(number) for number, name in enumerate(methods)}
        self._methods = {self._marks[name][len(mark):].encode(): method for name, method in methods.items()}
        self._kept = lru_cache(KEPT)(self._made)  # foreign keys and the like repeat
        self._pattern = re.compile(mark.encode() + b"([0-9a-f]{3})([0-9A-Fa-f]*)")

    def __contains__(self, column: str) -> bool:
        return column in self._marks

    def of(self, column: str) -> tuple[str, str]:
        """A column's mark in two parts, which SQL is to join: a statement that a view shows has no mark in it."""
        mark = self._marks[column]
        return mark[:BYTES], mark[BYTES:]

    def replaced(self, content: bytes) -> bytes:
        """Whole lines with each marked value protected."""
        return self._pattern.sub(self._protected, content)

    def _protected(self, found: re.Match[bytes]) -> bytes:
        number, digits = found.groups()
        return (self._kept if len(digits) <= SHORT else self._made)(number, digits)

    def _made(self, number: bytes, digits: bytes) -> bytes:
        return self._methods[number](binascii.a2b_hex(digits))


class MarkedFile(io.RawIOBase):
    """A stream whose marked values are protected before they are written to a file. A line feed is never part of one.

    Attributes:
        file: What is written to; its size and hash are those of the protected lines.
    """

    def __init__(self, file: HashedFile, marks: Marks) -> None:
        self.file, self._marks = file, marks
        self._rest: list[bytes] = []  # of a line whose end has not come

    def writable(self) -> bool:
        return True

    def write(self, chunk: Any) -> int:
        lines, end, rest = bytes(chunk).rpartition(b"\n")
        if end:
            self._pass(b"".join([*self._rest, lines, end]))
            self._rest.clear()
        self._rest.append(rest)
        return len(chunk)

    def _pass(self, content: bytes) -> None:
        left = memoryview(self._marks.replaced(content))
        while left:
            left = left[self.file.write(left):]

    def close(self) -> None:
        try:
            if not self.closed and any(self._rest):
                self._pass(b"".join(self._rest))
                self._rest.clear()
        finally:
            self.file.close()
            super().close()
