"""Rows of a CSV file that repeat the key of an earlier row.

Keys are compared as PostgreSQL's unique index will compare them: see model/equality.py. DuckDB does so in bounded
memory, and spills to disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from landing.extract.csv.text import CsvText

if TYPE_CHECKING:
    from landing.extract.csv.parsed import ParsedRows


def find_duplicates(rows: ParsedRows, keys: Sequence[str], *, keep_last: bool = False) -> int:
    """Fill the table `duplicates`.

    Args:
        rows: The rows of an entity.
        keys: The key's expressions, as equality.value() gives them.
        keep_last: The last row of each key is none, instead of the first.

    Returns:
        The number of rows in that table.
    """
    if repeated := _repeated(rows, keys, keep_last=keep_last):
        rows.query(f"CREATE OR REPLACE TABLE duplicates AS SELECT number, first FROM {repeated} ORDER BY number")  # noqa: S608
    return rows.query("SELECT count(*) FROM duplicates").fetchone()[0]


def reject_repeated(rows: ParsedRows, value: str, code: int, found: str) -> None:
    """Have rows fail whose value an earlier row has. `found`: the expression for what is reported."""
    if repeated := _repeated(rows, [value], found):
        rows.fail(f"SELECT number, {code}, found, first FROM {repeated}")  # noqa: S608


def _repeated(rows: ParsedRows, keys: Sequence[str], found: str = "NULL", *, keep_last: bool = False) -> str | None:
    """A relation of the rows that repeat a key, with the row that has it first, or last; None if there are none.

    Only rows whose hash occurs twice are compared by their keys.
    """
    listed = ", ".join(keys)
    aliased = ", ".join(f"{key} AS k{n}" for n, key in enumerate(keys))
    names = ", ".join(f"k{n}" for n in range(len(keys)))
    some = " AND ".join(f"{key} IS NOT NULL" for key in keys)
    rows.query(f"CREATE OR REPLACE TABLE suspects AS SELECT hash({listed}) AS h FROM accepted WHERE {some} "  # noqa: S608
               "GROUP BY h HAVING count(*) > 1")
    if not rows.query("SELECT count(*) FROM suspects").fetchone()[0]:
        return None
    kept, repeats = ("max", "<") if keep_last else ("min", ">")
    return (f"(SELECT number, found, {kept}(number) OVER (PARTITION BY {names}) AS first FROM "  # noqa: S608
            f"(SELECT number, {found} AS found, {aliased} FROM accepted "
            f"WHERE {some} AND hash({listed}) IN (SELECT h FROM suspects)) QUALIFY number {repeats} first)")


def first_duplicates(rows: ParsedRows, limit: int, base: str) -> Iterator[tuple[CsvText, str]]:
    """The first rows of the table `duplicates`: their text, at that row, and the line of the row that they repeat.

    `base`: what to say of the number 0, which is none of these rows.
    """
    pairs = rows.query(f"SELECT * FROM duplicates ORDER BY number LIMIT {limit}").fetchall()  # noqa: S608
    first_of, lines = dict(pairs), dict.fromkeys((first for _, first in pairs), "") | {0: base}
    for number, text, _ in rows.chosen(sorted({*first_of, *lines} - {0})):
        if number in lines:
            lines[number] = rows.line_of(text)
        if number in first_of:
            yield text, lines[first_of[number]]
