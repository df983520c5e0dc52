"""CSV files of any dialect -> ours: found, checked, parsed by DuckDB, typed without loss, written again.

Field text stays as it came. What DuckDB reads has to agree with what csv_text.py read before.

A bad row is refused with its file, or quarantined: what csv_text.py can't read stays out of the copy that DuckDB gets,
and what is no value of its type, or no key, DuckDB finds there.
"""

from __future__ import annotations

import glob
import io
import itertools
import logging
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import duckdb

from landing.core.errors import BadFileError
from landing.core.progress import Progress
from landing.extract.csv import declared_types, inference, keys
from landing.extract.csv.declaration import CONTROL, Declaration
from landing.extract.csv.declared_types import SPACE, Declared
from landing.extract.csv.dialect import dialect_of
from landing.extract.csv.keys import DoubledKeys
from landing.extract.csv.quarantine import Quarantine
from landing.extract.csv.text import BadRow, CsvText, Measure, RowsHash
from landing.model import csv_dialect
from landing.model.schema import NAME_BYTES, Column
from landing.postgres.copy import Copied
from landing.storage.hashing import BUFFER, HashedFile

COLUMNS = 1600  # of a table in PostgreSQL
SHORT = reprlib.Repr()  # of what is in a file, and can be of any length
SHORT.maxlist, SHORT.maxstring = 10, 100
logger = logging.getLogger("tap-csv")
CHUNK = 2_000  # rows
BATCH = 200  # columns; DuckDB takes memory for every expression of a query
MINIMAL_LINE = 1 << 20  # bytes
MEMORY, COLUMN_MEMORY = 64 << 20, 512 << 10  # bytes: limits, of which most files take far less


@dataclass(frozen=True)
class Check:
    """Something that can be wrong with a value: DuckDB's condition that it is, and the reason to give.

    Where PostgreSQL `fits` the value into its type nevertheless, the reason is that this would change it.
    """

    place: int
    name: str
    reason: str
    wrong: str
    changes: str = ""
    fits: str | None = None

    def found(self, number: int, value: str) -> str:
        """Why a value is bad, without the value. `number` is as `bad` has it."""
        reason = self.changes if number % 2 else self.reason
        return f"{reason} (the value's length is {len(value)})" if self.changes else reason


class CsvEntity:
    """The files of one declaration. Opening them reads no more than their headers."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.texts = [CsvText(path, declaration.encoding) for path in declaration.files()]
        first = self.texts[0]
        try:
            self.dialect = dialect_of(first.sample(), declaration.delimiter, declaration.quote, declaration.escape)
        except ValueError as error:
            raise BadFileError(first.path, 1, str(error)) from None
        self.header = self.texts[0].header(self.dialect)
        for text in self.texts[1:]:
            if (header := text.header(self.dialect)) != self.header:
                raise BadFileError(text.path, 1, f"header {SHORT.repr(header)} differs from {SHORT.repr(self.header)} "
                                                 f"in {self.texts[0].path}")
        self.names = self._names()
        self.left_out = 0  # rows with an earlier row's key, by on_duplicate_key: keep_first

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(text.size for text in self.texts)

    def _names(self) -> list[str]:
        """Column names after `rename`; each must be there, once, and as long as PostgreSQL allows."""
        given, path = self.declaration, self.texts[0].path
        if len(self.header) > COLUMNS:
            raise BadFileError(path, 1, f"{len(self.header):,} columns, and PostgreSQL takes {COLUMNS:,}")
        names = [given.rename.get(name, name) for name in self.header]
        unknown = {*given.rename, *given.types} - {*self.header, *names} | {*given.keys} - {*names}
        if unknown:
            listed = ", ".join(map(repr, sorted(unknown)))
            found = SHORT.repr(self.header)
            raise BadFileError(path, 1, f"no column {listed}, which the declaration names; found {found}")
        for number, name in enumerate(names, 1):
            times, size = names.count(name), len(name.encode())
            fault = (
                "has no name" if not name
                else f"stands {times} times in the header" if times > 1
                else f"has a name of {size} bytes, and PostgreSQL takes {NAME_BYTES}" if size > NAME_BYTES
                else "has a control character in its name" if CONTROL.search(name)
                else None
            )
            if fault:
                how = f"Rename it under `rename` of entity {given.entity}, or mend the header"
                raise BadFileError(path, 1, f"column {number}, {SHORT.repr(name)}, {fault}. {how}")
        return names

    def columns(self) -> list[Column]:
        """Columns as far as the header tells; types not declared are text until the file is read."""
        return [
            Column(name, self._declared(name, original) or "text",
                   comment=f"CSV header: {original}" if name != original else None)
            for name, original in zip(self.names, self.header, strict=True)
        ]

    def _declared(self, name: str, original: str) -> str | None:
        return self.declaration.types.get(name) or self.declaration.types.get(original)

    def convert(
        self, wanted: Sequence[str], folder: Path, path: Path, progress: Progress,
        quarantine: Quarantine | None = None, doubles: Quarantine | None = None,
        before: Mapping[str, str] | None = None,
    ) -> tuple[list[Column], Copied]:
        """Write the wanted columns to `path` in our dialect: columns with their types, and what was written.

        `folder` takes copies: of what has to be decoded first, or to be read without its bad rows. Those are refused
        where there is no `quarantine` for them. `doubles` is the quarantine for rows that have an earlier row's key.
        `before`: inferred types by column at an earlier date; a type that differs is logged.
        """
        bad = quarantine and quarantine.take
        read = RowsHash()
        measures = [text.measured(self.dialect, folder / f"{n}.csv", bad, read) for n, text in enumerate(self.texts)]
        places = [place for place, name in enumerate(self.names) if name in set(wanted)]
        checks = self._checks(places, with_keys=quarantine is not None)
        try:
            with self._table(measures, checks, folder) as connection:
                columns, bad_rows = self._inferred(connection, places, measures)
                if bad_rows:
                    self._put_aside(connection, checks, quarantine)
                self._say_changes(connection, dict(zip(places, columns, strict=True)), before or {})
                doubled = self._doubled(connection, columns, places, doubles)
                copied = self._write(connection, columns, places, path, progress, read, bad_rows > 0, doubled)
        except duckdb.Error as error:
            raise self._refused(error, measures, bool(quarantine)) from None
        for text in self.texts:
            if text.changed:
                raise BadFileError(text.path, None, "it changed while it was read")
        if quarantine and quarantine.rows and not copied.rows:
            raise BadFileError(self.declaration.path, None, f"none of its {quarantine.rows:,} rows can be read")
        return columns, copied

    def _checks(self, places: Sequence[int], *, with_keys: bool) -> list[Check]:
        """What can be wrong with the values of these columns; of a key's that they are missing, only `with_keys`."""
        found = []
        for place in places:
            name, column = self.names[place], f"c{place}"
            key = name in self.declaration.keys
            if key and with_keys:
                found.append(Check(place, name, "no value for a column of the key", f"{column} IS NULL"))
            if type_ := self._declared(name, self.header[place]):
                check = _type_check(place, name, type_, lossy=self.declaration.lossy and not key)
                found += [check] if check else []
        return found

    def _table(
        self, measures: Sequence[Measure], checks: Sequence[Check], folder: Path
    ) -> duckdb.DuckDBPyConnection:
        """A connection with a view `entity` of the files' text; its columns are c0, c1, …: DuckDB's ignore case.

        `bad` is twice the number of the first of the checks that finds something in the row, and one more where the
        value fits into its type with a loss; or NULL. The checks know the
        columns without spaces around their values as t0, t1, …
        """
        line = max(MINIMAL_LINE, *(measure.longest + 1 for measure in measures))
        memory = MEMORY + COLUMN_MEMORY * len(self.names) + 4 * line
        connection = duckdb.connect(config={"memory_limit": f"{memory}B", "threads": 1,
                                            "temp_directory": str(folder / "duckdb")})
        types = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(self.names)))
        paths = ", ".join(_literal(glob.escape(str(measure.path))) for measure in measures)
        options = {"delim": self.dialect.delimiter, "quote": self.dialect.quote, "escape": self.dialect.escape}
        cases = " ".join(f"WHEN {check.wrong} THEN {2 * number}"
                         + (f" + coalesce({check.fits}, false)::INTEGER" if check.fits else "")
                         for number, check in enumerate(checks))
        bad = f"CASE {cases} END" if cases else "NULL"
        trimmed = "".join(f", trim(c{place}, {_literal(SPACE)}) AS t{place}"
                          for place in sorted({check.place for check in checks}))
        connection.execute("SET enable_progress_bar = false")  # it would be among the tap's messages
        connection.execute(
            f"CREATE VIEW entity AS SELECT COLUMNS('^c[0-9]+$'), {bad} AS bad FROM (SELECT *{trimmed} "  # noqa: S608
            f"FROM read_csv([{paths}], columns={{{types}}}, "
            "auto_detect=false, header=true, nullstr='', allow_quoted_nulls=false, null_padding=false, "
            "strict_mode=true, comment='', compression='none', hive_partitioning=false, "
            f"max_line_size={line}, buffer_size={2 * line}, "
            + ", ".join(f"{name}={_literal(value)}" for name, value in options.items()) + "))"
        )
        return connection

    def _inferred(
        self, connection: duckdb.DuckDBPyConnection, places: Sequence[int], measures: Sequence[Measure]
    ) -> tuple[list[Column], int]:
        """Types over the whole of the files, and the number of bad rows."""
        answers: list[tuple[int, int]] = []
        for start in range(0, len(self.names), BATCH):
            asked = ", ".join(
                f"count({c}) FILTER (WHERE bad IS NULL), "
                f"coalesce(bit_or({inference.kind(c)}) FILTER (WHERE bad IS NULL), 0)"
                for c in (f"c{place}" for place in range(start, min(start + BATCH, len(self.names))))
            )
            rows, bad, *found = connection.execute(
                f"SELECT count(*), count(bad), {asked} FROM entity").fetchone()  # noqa: S608
            answers += zip(found[::2], found[1::2], strict=True)
        if rows != sum(measure.rows for measure in measures):
            self._refuse_difference(connection)
        columns = self.columns()
        return [self._typed(connection, columns[place], place, answers[place][0] < rows - bad, answers[place][1])
                for place in places], bad

    def _typed(
        self, connection: duckdb.DuckDBPyConnection, column: Column, place: int, has_nulls: bool, bits: int
    ) -> Column:
        key = column.name in self.declaration.keys
        if key and has_nulls:
            self._refuse_first(connection, f"no value for the key column {column.name!r}",
                               lambda _, theirs: theirs[place] is None)
        if not self._declared(column.name, self.header[place]):
            column = replace(column, type=inference.inferred(bits), evidence=bits != 0)
        return replace(column, nullable=not key)

    def _in_step(
        self, connection: duckdb.DuckDBPyConnection, asked: str
    ) -> Iterator[tuple[CsvText, list[str], tuple | None]]:
        """Read once more, to name the line: each row as csv_text.py has it, and DuckDB's answer of it."""
        cursor = connection.execute(f"SELECT {asked} FROM entity")  # noqa: S608
        for text in self.texts:
            for ours in itertools.islice(text.rows(self.dialect, _pass_by), 1, None):
                yield text, ours or [""], cursor.fetchone()

    def _refuse_difference(self, connection: duckdb.DuckDBPyConnection) -> NoReturn:
        self._refuse_first(connection, "read differently by two readers; is there a space before a quote?",
                           lambda ours, theirs: ours != [field or "" for field in theirs])

    def _refuse_first(
        self, connection: duckdb.DuckDBPyConnection, reason: str, wrong: Callable[[list[str], tuple], bool]
    ) -> NoReturn:
        for text, ours, theirs in self._in_step(connection, "* EXCLUDE (bad)"):
            if theirs is None or wrong(ours, theirs):
                raise text.refused(reason)
        raise BadFileError(self.texts[-1].path, None, reason)

    def _put_aside(
        self, connection: duckdb.DuckDBPyConnection, checks: Sequence[Check], quarantine: Quarantine | None
    ) -> None:
        """Quarantine rows with a value that can't be landed, or refuse the first where there is no quarantine."""
        for text, ours, (number,) in self._in_step(connection, "bad"):
            if number is None:
                continue
            check = checks[number // 2]
            reason = check.found(number, ours[check.place])
            if quarantine is None:
                raise text.refused(f"column {check.name!r}: {reason}")
            quarantine.take(text.bad(reason, check.name))

    def _say_changes(
        self, connection: duckdb.DuckDBPyConnection, columns: Mapping[int, Column], before: Mapping[str, str]
    ) -> None:
        """Log each inferred type that is another than before, with the first line that makes it so."""
        for place, column in columns.items():
            old = before.get(column.name, column.type)
            if old == column.type or not column.evidence or self._declared(column.name, self.header[place]):
                continue
            number = connection.execute(
                f"SELECT min(place) FROM (SELECT row_number() OVER () AS place, bad, {inference.kind(f'c{place}')} "  # noqa: S608
                f"AS kind FROM entity) WHERE bad IS NULL AND kind & ~{inference.allowed(old)} <> 0").fetchone()[0]
            where = ""
            if number and old != "text":
                text, *_ = next(itertools.islice(self._in_step(connection, "1"), number - 1, None))
                where = f", since line {text.first} of {text.path}"
            logger.warning(
                "%s.%s: its values are %s, and were %s at the date before%s. A load gives all dates a type that "
                "holds both, and if that is text, for good. To have such a row refused or quarantined, declare "
                "types: {%s: %s}.",
                self.declaration.entity, column.name, column.type, old, where, column.name, old)

    def _doubled(
        self, connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], places: Sequence[int],
        quarantine: Quarantine | None,
    ) -> DoubledKeys | None:
        """The rows with an earlier row's key, which are left out, as on_duplicate_key has it; or refuse the first."""
        values = [keys.value(column.type, f"c{place}") for column, place in zip(columns, places, strict=True)
                  if column.name in self.declaration.keys]
        if not values:
            return None
        doubled = DoubledKeys(connection, values)
        if not doubled.rows:
            return None
        self.left_out = 0 if quarantine else doubled.rows
        self._say_doubled(connection, doubled.pairs(quarantine.limit + 1 if quarantine else 1), quarantine)
        return doubled

    def _say_doubled(
        self, connection: duckdb.DuckDBPyConnection, pairs: Sequence[tuple[int, int]], quarantine: Quarantine | None
    ) -> None:
        """Read once more, to name the lines: `pairs` are a row and the first with its key, by number."""
        first_of, firsts = dict(pairs), dict.fromkeys(first for _, first in pairs)
        for number, (text, _, _) in enumerate(self._in_step(connection, "1"), 1):
            if number in firsts:
                firsts[number] = f"line {text.first}" + (f" of {text.path}" if len(self.texts) > 1 else "")
            if number not in first_of:
                continue
            columns = ", ".join(self.declaration.keys)
            reason = f"its key ({columns}) is that of {firsts[first_of[number]]}"
            if quarantine:
                quarantine.take(text.bad(reason))
            elif self.declaration.on_duplicate_key == "keep_first":
                logger.warning("%s: %s rows with an earlier row's key are left out. The first is line %d of %s: %s.",
                               self.declaration.entity, f"{self.left_out:,}", text.first, text.path, reason)
                return
            else:
                raise text.refused(f"{reason}. If that may be, set on_duplicate_key to keep_first or quarantine")

    def _refused(self, error: duckdb.Error, measures: Sequence[Measure], without_bad_rows: bool) -> BadFileError:
        """What csv_text.py lets pass, and DuckDB doesn't; in a copy without the bad rows lines have other numbers."""
        said = str(error)
        path = re.search("^  file = (.*)$", said, re.M)
        text = next((text for text, measure in zip(self.texts, measures, strict=True)
                     if path and str(measure.path) == path[1]), self.texts[0])
        line = None if without_bad_rows else re.search("CSV Error on Line: ([0-9]+)", said)
        reason = re.search("\n([^\n]+)\n\nPossible", said)
        reason = (reason[1] if reason else said.split("\n")[0]).strip(".")
        return BadFileError(text.path, int(line[1]) if line else None, f"{reason} (read with {self.dialect})")

    def _write(
        self, connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], places: Sequence[int], path: Path,
        progress: Progress, read: RowsHash, without_bad: bool, doubled: DoubledKeys | None,
    ) -> Copied:
        """The rows in their order, quoted by our rules, once all fields have been found to be those of `read`."""
        found = RowsHash()
        line = csv_dialect.sql_line([f"c{place}" for place in places])
        row = ", ".join(f"coalesce(c{place}, '')" for place in range(len(self.names)))
        what = [line, f"concat_ws(chr(0), {row})"]
        if without_bad or doubled:
            what += ["bad IS NULL", "row_number() OVER ()"]
        connection.execute(f"SELECT {', '.join(what)} FROM entity")  # noqa: S608
        raw = HashedFile(path, "xb", progress.advance)
        rows = 0
        with io.BufferedWriter(raw, BUFFER) as file:
            file.write(csv_dialect.header(columns))
            left_out = doubled.places() if doubled else iter(())
            next_one = next(left_out, 0)
            while chunk := connection.fetchmany(CHUNK):
                lines, fields, *numbered = zip(*chunk, strict=True)
                found.add(fields)
                if numbered:
                    kept = []
                    for text, good, place in zip(lines, *numbered, strict=True):
                        if place == next_one:
                            next_one = next(left_out, 0)
                        elif good:
                            kept.append(text)
                    lines = kept
                file.write("".join(f"{line}\n" for line in lines).encode())
                rows += len(lines)
        if found.value != read.value:
            self._refuse_difference(connection)
        return Copied(rows, raw.size, raw.sha256)


def _type_check(place: int, name: str, type_: str, *, lossy: bool) -> Check | None:
    """That values are of a declared type and, unless `lossy`, that it holds them exactly."""
    column = f"t{place}" if Declared.of(type_).spaced else f"c{place}"
    fits, held = declared_types.fits(type_, column), None if lossy else declared_types.held(type_, column)
    if not (good := held or fits):
        return None
    wrong = f"c{place} IS NOT NULL AND NOT coalesce({good}, false)"
    return Check(place, name, f"not a value of type {type_}", wrong, f"type {type_} does not hold it exactly",
                 fits if held and held != fits else None)


def _pass_by(row: BadRow) -> None:
    """It is in quarantine already, or was refused."""


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
