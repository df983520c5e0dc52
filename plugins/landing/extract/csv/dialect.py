"""How a CSV file writes its fields: declared, or found in its header."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Dialect:
    """How a file writes its fields."""

    delimiter: str
    quote: str
    escape: str

    def __str__(self) -> str:
        return f"delimiter {self.delimiter!r}, quote {self.quote!r}, escape {self.escape!r}"

    @property
    def doubles(self) -> bool:
        """Whether a quote within a quoted field is doubled, and nothing else is escaped."""
        return self.escape == self.quote

    @cached_property
    def _escapes(self) -> re.Pattern:
        return re.compile(f"{re.escape(self.escape)}([{re.escape(self.escape + self.quote)}])")

    @cached_property
    def _field(self) -> re.Pattern:
        delimiter, quote = re.escape(self.delimiter), re.escape(self.quote)
        return re.compile(f"{delimiter}(?:{quote}([^{quote}]*){quote}(?={delimiter}|\\Z)|([^{delimiter}]*))")

    def unescaped(self, text: str) -> str:
        """A line with its escapes masked: the csv module applies them outside of quotes too, PostgreSQL does not."""
        return text if self.doubles else self._escapes.sub("__", text)

    def fields(self, text: str) -> Iterator[str]:
        """The fields of a record with escapes.

        Raises:
            ValueError: An escape precedes a character that needs none: readers disagree on whether to keep it.
        """
        text = self.delimiter + text
        for match in self._field.finditer(self.unescaped(text)):
            found = text[slice(*match.span(match.lastindex))]
            if match.lastindex == 2 and not found.startswith(self.quote):
                yield found
            elif match.lastindex == 2:
                raise ValueError("an unescaped quote within quotes")
            elif self.escape in match[1]:
                raise ValueError(f"{self.escape!r} within quotes before a character that needs no escape")
            else:
                yield self._escapes.sub(r"\1", found)

    def closes(self, text: str) -> bool:
        """Whether a misquoted row certainly ends with this line: its quotes are even, and the last one ends a field."""
        text = self.unescaped(text).rstrip("\r\n")
        before, _, behind = text.rpartition(self.quote)
        return before.count(self.quote) % 2 == 1 and behind[:1] in ("", self.delimiter)


def dialect_of(sample: str, delimiter: str | None, quote: str | None, escape: str | None) -> Dialect:
    r"""The declared dialect; by default `"` doubled inside `"`, and the most frequent delimiter of the header.

    Quote and escape are never guessed: the apostrophes of `'yes'` and both backslashes of `"\\host"` may be content.

    Raises:
        ValueError: Two delimiters are equally frequent.
    """
    quote = quote or '"'
    return Dialect(delimiter or _likely_delimiter(sample, quote), quote, escape or quote)


def _likely_delimiter(sample: str, quote: str) -> str:
    quote = re.escape(quote)
    header = re.split("[\r\n]", re.sub(f"{quote}[^{quote}]*{quote}", "", sample), maxsplit=1)[0]
    found = Counter(char for char in header if char in DELIMITERS).most_common(2)
    if len(found) > 1 and found[0][1] == found[1][1]:
        raise ValueError(f"the delimiter is ambiguous: the header has as many {found[0][0]!r} as {found[1][0]!r}. "
                         "Declare `delimiter`")
    return found[0][0] if found else ","
