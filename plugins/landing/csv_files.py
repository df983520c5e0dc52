"""CSV files of any dialect -> ours: found, checked, parsed by DuckDB, typed without loss, written again.

Field text stays as it came. A type is inferred only where PostgreSQL writes each of the column's values exactly as the
file does, so that what comes out of the warehouse is what went in.

What DuckDB reads has to agree with what csv_text.py read before.
"""

from __future__ import annotations

import glob
import io
import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import duckdb

from landing import database, dialect, files, project
from landing.csv_text import CsvText, Measure, sniffed
from landing.dialect import TYPE, Column
from landing.errors import BadFileError, SettingError, SourceError

NAME_BYTES = 63  # PostgreSQL cuts longer names without asking

# For each SQL type, whether the text {0} is just what PostgreSQL writes for a value of it. The first that fits counts.
DECIMAL = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"
SPELLINGS = {
    "integer": "TRY_CAST({0} AS INTEGER)::VARCHAR = {0}",
    "bigint": "TRY_CAST({0} AS BIGINT)::VARCHAR = {0}",
    "numeric": f"strlen({{0}}) <= 1000 AND regexp_matches({{0}}, '{DECIMAL}')"
    " AND NOT regexp_matches({0}, '^-[0.]+$')",
    "date": "strlen({0}) = 10 AND TRY_CAST({0} AS DATE)::VARCHAR = {0}",
    "timestamp without time zone": "strlen({0}) BETWEEN 19 AND 26 AND {0} NOT LIKE '%)'"
    " AND TRY_CAST({0} AS TIMESTAMP)::VARCHAR = {0}",
}
# Each value's type is a bit, and "text" the last; a column has the bits of its values.
BITS = {type_: 1 << place for place, type_ in enumerate([*SPELLINGS, "text"])}
NUMBERS = BITS["integer"] | BITS["bigint"] | BITS["numeric"]

CHUNK = 2_000  # rows
BATCH = 200  # columns; DuckDB takes memory for every expression of a query
MINIMAL_LINE = 1 << 20  # bytes
MEMORY, COLUMN_MEMORY = 64 << 20, 512 << 10  # bytes: limits, of which most files take far less


@dataclass(frozen=True)
class Declaration:
    """One entry of the setting `files`."""

    entity: str
    path: str
    keys: list[str] = field(default_factory=list)
    delimiter: str | None = None
    encoding: str | None = None
    quote: str | None = None
    escape: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"tap-csv, entity {self.entity}"
        for name, type_ in self.types.items():
            if not TYPE.fullmatch(type_):
                raise SettingError(f"{where}: types.{name}={type_!r} is not the name of a type.")
        for name in ("delimiter", "quote", "escape"):
            value = getattr(self, name)
            if value is not None and (len(value) != 1 or value in "\r\n\0"):
                raise SettingError(f"{where}: {name}={value!r} is not one character (in YAML a tab is \"\\t\").")
        if self.delimiter in {self.quote or '"', self.escape or '"'}:
            raise SettingError(f"{where}: {self.delimiter!r} can't be the delimiter and quote or escape as well.")
        try:
            "".encode(self.encoding or "utf-8")
        except LookupError:
            raise SettingError(f"{where}: encoding={self.encoding!r} is not one that Python knows.") from None

    def files(self) -> list[Path]:
        """The file, those in the folder (*.csv), or those that the pattern matches, in order of their names."""
        pattern = project.root() / self.path
        if pattern.is_dir():
            found = [path for path in pattern.iterdir() if path.suffix.lower() == ".csv" and path.name[0] != "."]
        elif glob.has_magic(self.path) and not pattern.exists():
            found = [Path(match) for match in glob.glob(str(pattern), recursive=True)]
        else:
            found = [pattern]
        for path in found or [pattern]:
            if not path.is_file():
                what = "is not a file" if path.exists() else "does not exist"
                what = "is a folder without a *.csv" if not found and pattern.is_dir() else what
                raise SourceError(
                    f"tap-csv, entity {self.entity}: {path} {what}. Nothing of this source's date was committed; put "
                    "the file there, or change the entity's path under tap-csv in meltano.yml, and run again."
                )
        return sorted(found)


def declarations(settings: Sequence[Mapping[str, Any]]) -> list[Declaration]:
    """The setting `files`, each entity once."""
    found = [Declaration(**{name: value for name, value in entry.items() if value is not None}) for entry in settings]
    for entity, times in Counter(declaration.entity for declaration in found).items():
        if times > 1:
            raise SettingError(f"tap-csv: entity {entity!r} is declared {times} times. Give a pattern as its path.")
    return found


class CsvEntity:
    """The files of one declaration. Opening them reads no more than their headers."""

    def __init__(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.texts = [CsvText(path, declaration.encoding) for path in declaration.files()]
        self.dialect = sniffed(self.texts[0].sample(), declaration.delimiter, declaration.quote, declaration.escape)
        self.header = self.texts[0].header(self.dialect)
        for text in self.texts[1:]:
            if (header := text.header(self.dialect)) != self.header:
                raise BadFileError(text.path, 1, f"header {header} differs from {self.header} in {self.texts[0].path}")
        self.names = self._names()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(text.path.stat().st_size for text in self.texts)

    def _names(self) -> list[str]:
        """Column names after `rename`; each must be there, once, and as long as PostgreSQL allows."""
        given, path = self.declaration, self.texts[0].path
        names = [given.rename.get(name, name) for name in self.header]
        unknown = {*given.rename, *given.types} - {*self.header, *names} | {*given.keys} - {*names}
        if unknown:
            listed = ", ".join(map(repr, sorted(unknown)))
            raise BadFileError(path, 1, f"no column {listed}, which the declaration names; found {self.header}")
        for number, name in enumerate(names, 1):
            times, size = names.count(name), len(name.encode())
            fault = (
                "has no name" if not name
                else f"stands {times} times in the header" if times > 1
                else f"has a name of {size} bytes, and PostgreSQL takes {NAME_BYTES}" if size > NAME_BYTES
                else "has a control character in its name" if re.search("[\x00-\x1f\x7f]", name)
                else None
            )
            if fault:
                how = f"Rename it under `rename` of entity {given.entity}, or mend the header"
                raise BadFileError(path, 1, f"column {number}, {name!r}, {fault}. {how}")
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
        self, wanted: Sequence[str], folder: Path, path: Path, progress: database.Progress
    ) -> tuple[list[Column], database.Copied]:
        """Write the wanted columns to `path` in our dialect: columns with their types, and what was written.

        `folder` takes what has to be decoded first.
        """
        stamps = [text.stamp() for text in self.texts]
        measures = [text.measured(self.dialect, folder / f"{n}.csv") for n, text in enumerate(self.texts)]
        places = [place for place, name in enumerate(self.names) if name in set(wanted)]
        try:
            with self._table(measures) as connection:
                columns = self._inferred(connection, places, measures)
                copied = self._write(connection, columns, places, path, progress)
        except duckdb.Error as error:
            raise self._refused(error, measures) from None
        for text, stamp in zip(self.texts, stamps, strict=True):
            if text.stamp() != stamp:
                raise BadFileError(text.path, None, "it changed while it was read")
        return columns, copied

    def _table(self, measures: Sequence[Measure]) -> duckdb.DuckDBPyConnection:
        """A connection with a view `entity` of the files' text; its columns are c0, c1, …: DuckDB's ignore case."""
        line = max(MINIMAL_LINE, *(4 * measure.longest for measure in measures))  # a character has up to 4 bytes
        memory = MEMORY + COLUMN_MEMORY * len(self.names) + 4 * line
        connection = duckdb.connect(config={"memory_limit": f"{memory}B", "threads": 1})
        types = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(len(self.names)))
        paths = ", ".join(_literal(glob.escape(str(measure.path))) for measure in measures)
        options = {"delim": self.dialect.delimiter, "quote": self.dialect.quote, "escape": self.dialect.escape}
        connection.execute(
            f"CREATE VIEW entity AS SELECT * FROM read_csv([{paths}], columns={{{types}}}, auto_detect=false, "  # noqa: S608
            "header=true, nullstr='', allow_quoted_nulls=false, null_padding=false, strict_mode=true, comment='', "
            f"compression='none', hive_partitioning=false, max_line_size={line}, buffer_size={2 * line}, "
            + ", ".join(f"{name}={_literal(value)}" for name, value in options.items()) + ")"
        )
        return connection

    def _inferred(
        self, connection: duckdb.DuckDBPyConnection, places: Sequence[int], measures: Sequence[Measure]
    ) -> list[Column]:
        """Types over the whole of the files, once DuckDB has been found to read what csv_text.py read."""
        answers: list[tuple[int, int, int]] = []
        for start in range(0, len(self.names), BATCH):
            asked = ", ".join(
                f"coalesce(sum(length({c})), 0), count({c}), coalesce(bit_or({_kind(c)}), 0)"
                for c in (f"c{place}" for place in range(start, min(start + BATCH, len(self.names))))
            )
            rows, *found = connection.execute(f"SELECT count(*), {asked} FROM entity").fetchone()  # noqa: S608
            answers += zip(found[::3], found[1::3], found[2::3], strict=True)
        characters = sum(length for length, _, _ in answers)
        expected = sum(measure.rows for measure in measures), sum(measure.characters for measure in measures)
        if rows != expected[0] or (self.dialect.doubles and characters != expected[1]):
            self._refuse_first(connection, "read differently by two readers; is there a space before a quote?",
                               lambda ours, theirs: ours != [field or "" for field in theirs])
        columns = self.columns()
        return [self._typed(connection, columns[place], place, answers[place][1] < rows, answers[place][2])
                for place in places]

    def _typed(
        self, connection: duckdb.DuckDBPyConnection, column: Column, place: int, has_nulls: bool, bits: int
    ) -> Column:
        key = column.name in self.declaration.keys
        if key and has_nulls:
            self._refuse_first(connection, f"no value for the key column {column.name!r}",
                               lambda _, theirs: theirs[place] is None)
        if not self._declared(column.name, self.header[place]):
            column = replace(column, type=_type(bits))
        return replace(column, nullable=not key)

    def _refuse_first(
        self, connection: duckdb.DuckDBPyConnection, reason: str, wrong: Callable[[list[str], tuple], bool]
    ) -> NoReturn:
        """Read once more, in step with csv_text.py, to name the line."""
        cursor = connection.execute("SELECT * FROM entity")
        for text in self.texts:
            for ours in itertools.islice(text.records(self.dialect), 1, None):
                if not ours and len(self.names) > 1:
                    continue
                theirs = cursor.fetchone()
                if theirs is None or wrong(ours or [""], theirs):
                    raise text.refused(reason)
        raise BadFileError(self.texts[-1].path, None, reason)

    def _refused(self, error: duckdb.Error, measures: Sequence[Measure]) -> BadFileError:
        """What csv_text.py lets pass, and DuckDB doesn't."""
        said = str(error)
        path = re.search("^  file = (.*)$", said, re.M)
        text = next((text for text, measure in zip(self.texts, measures, strict=True)
                     if path and str(measure.path) == path[1]), self.texts[0])
        line = re.search("CSV Error on Line: ([0-9]+)", said)
        if "invalid state" in said and isinstance(text.newlines, tuple):
            return BadFileError(text.path, None, f"its lines end in different ways ({text.newlines}); expected one")
        reason = re.search("\n([^\n]+)\n\nPossible", said)
        reason = (reason[1] if reason else said.split("\n")[0]).strip(".")
        return BadFileError(text.path, int(line[1]) if line else None, f"{reason} (read with {self.dialect})")

    def _write(
        self, connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], places: Sequence[int], path: Path,
        progress: database.Progress,
    ) -> database.Copied:
        """The rows in their order, quoted by our rules."""
        connection.execute(f"SELECT {dialect.sql_line([f'c{place}' for place in places])} FROM entity")  # noqa: S608
        raw = files.HashedFile(path, "xb", progress.advance)
        rows = 0
        with io.BufferedWriter(raw, files.BUFFER) as file:
            file.write(dialect.header(columns))
            while chunk := connection.fetchmany(CHUNK):
                file.write("".join(f"{line}\n" for (line,) in chunk).encode())
                rows += len(chunk)
        return database.Copied(rows, raw.size, raw.sha256)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _kind(column: str) -> str:
    """DuckDB's expression for a value's bit; one comparison sorts out what can't begin a number or a date."""
    cases = " ".join(f"WHEN {check.format(column)} THEN {BITS[type_]}" for type_, check in SPELLINGS.items())
    text = BITS["text"]
    return f"CASE WHEN {column} < '-' OR {column} >= ':' THEN {text} {cases} WHEN {column} IS NOT NULL THEN {text} END"


def _type(bits: int) -> str:
    """The type that keeps the text of all values: of numbers the widest, else the only one."""
    if bits and not bits & ~NUMBERS:
        return max((type_ for type_, bit in BITS.items() if bits & bit), key=BITS.__getitem__)
    return next((type_ for type_, bit in BITS.items() if bits == bit), "text")
