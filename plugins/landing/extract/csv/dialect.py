"""A CSV file as text: decoded, its dialect found, its lines counted, its records checked one by one.

DuckDB tells NULL from "" and is fast, but forgives much in silence: a delimiter too many at the end of a line, a space
before a quote, an empty line. So Python's csv module reads each file first, finds the rows that are not as they should
be, and hashes the fields that DuckDB has to find in the others.
"""

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

    @property
    def doubles(self) -> bool:
        """Whether a quote in a quoted field is doubled, and nothing else escaped."""
        return self.escape == self.quote

    @cached_property
    def _escapes(self) -> re.Pattern:
        return re.compile(f"{re.escape(self.escape)}([{re.escape(self.escape + self.quote)}])")

    @cached_property
    def _field(self) -> re.Pattern:
        delimiter, quote = re.escape(self.delimiter), re.escape(self.quote)
        return re.compile(f"{delimiter}(?:{quote}([^{quote}]*){quote}(?={delimiter}|\\Z)|([^{delimiter}]*))")

    def unescaped(self, text: str) -> str:
        """A line as csv may read it: csv would apply the escape outside of quotes as well, and PostgreSQL doesn't."""
        return text if self.doubles else self._escapes.sub("__", text)

    def fields(self, text: str) -> Iterator[str]:
        """Of a record with escapes; ValueError where one has nothing to escape: some keep it, and some leave it out."""
        text = self.delimiter + text
        for match in self._field.finditer(self.unescaped(text)):
            found = text[slice(*match.span(match.lastindex))]
            if match.lastindex == 2 and not found.startswith(self.quote):
                yield found
            elif match.lastindex == 2:
                raise ValueError("a quote in quotes that is not escaped")
            elif self.escape in match[1]:
                raise ValueError(f"{self.escape!r} in quotes before a character that needs no escape")
            else:
                yield self._escapes.sub(r"\1", found)

    def closes(self, text: str) -> bool:
        """Whether a row of wrong quotes surely ends with this line: they are even, and the last one ends a field."""
        text = self.unescaped(text).rstrip("\r\n")
        before, _, behind = text.rpartition(self.quote)
        return before.count(self.quote) % 2 == 1 and behind[:1] in ("", self.delimiter)


def dialect_of(sample: str, delimiter: str | None, quote: str | None, escape: str | None) -> Dialect:
    r"""What is declared; else `"` doubled inside `"`, and the delimiter that the header has most of.

    Quote and escape are never guessed: in `'yes'` the apostrophes may be the value's, in `"\\host"` both backslashes.
    ValueError where two delimiters are as likely.
    """
    quote = quote or '"'
    return Dialect(delimiter or _likely_delimiter(sample, quote), quote, escape or quote)


def _likely_delimiter(sample: str, quote: str) -> str:
    quote = re.escape(quote)
    header = re.split("[\r\n]", re.sub(f"{quote}[^{quote}]*{quote}", "", sample), maxsplit=1)[0]
    found = Counter(char for char in header if char in DELIMITERS).most_common(2)
    if len(found) > 1 and found[0][1] == found[1][1]:
        raise ValueError(f"the header has as many {found[0][0]!r} as {found[1][0]!r}. Declare the `delimiter`")
    return found[0][0] if found else ","
