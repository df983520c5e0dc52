"""Patterns of `select` that match nothing: a typo there would land what should stay out, or leave out a table.

Meltano applies `select` to the catalog and says nothing of them; it passes the patterns on in a variable.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from landing.core.errors import SettingError

VARIABLE = "MELTANO_EXTRACT__SELECT"
WILDCARD = re.compile(r"[*?\[]")
DOT = re.compile(r"(?<!\\)\.")


def patterns() -> list[str]:
    """The patterns of this run, without those that match everything."""
    try:
        found = json.loads(os.environ.get(VARIABLE) or "[]")
    except ValueError:
        return []
    return [str(one) for one in found if one != "*.*"] if isinstance(found, list) else []


def refuse_unmatched(given: Sequence[str], streams: Mapping[str, Sequence[str]]) -> None:
    """Raise SettingError for a pattern that names a table or column which the source does not have.

    A pattern with a wildcard may match nothing: it is a rule for tables to come.

    Args:
        given: Patterns.
        streams: Columns by stream.
    """
    for pattern in given:
        stream, *column = DOT.split(pattern.removeprefix("!"), maxsplit=1)
        stream = stream.replace(r"\.", ".")
        found = [name for name in streams if fnmatchcase(name, stream)]
        if not found and not WILDCARD.search(stream):
            raise _unmatched(pattern, f"the source has no table {stream!r}", stream, streams)
        if found and column and not WILDCARD.search(column[0]):
            columns = {name for one in found for name in streams[one]}
            if column[0].replace(r"\.", ".") not in columns:
                raise _unmatched(pattern, f"{', '.join(found[:3])} has no column {column[0]!r}", column[0], columns)


def _unmatched(pattern: str, why: str, name: str, known: Mapping[str, object] | set[str]) -> SettingError:
    close = difflib.get_close_matches(name, sorted(known), n=3)
    hint = f" Is it {' or '.join(close)}?" if close else ""
    return SettingError(f"select: the pattern {pattern!r} matches nothing: {why} (streams are named <schema>-<table>)."
                        f"{hint} Nothing was extracted. Correct `select` in meltano.yml, or what sets it for this run, "
                        "and run again.")
