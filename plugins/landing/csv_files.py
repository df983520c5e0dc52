"""CSV files of any dialect -> ours: found, checked, parsed by DuckDB, typed without loss, written again.

Field text stays as it came. A type is inferred only where PostgreSQL writes each of the column's values exactly as the
file does, so that what comes out of the warehouse is what went in.
"""

from __future__ import annotations

import codecs
import glob
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from landing import database, dialect, project
from landing.dialect import TYPE, Column
from landing.errors import BadFileError, SettingError, SourceError

DELIMITERS = ",;\t|"
NAME_BYTES = 63  # PostgreSQL cuts longer names without asking
LINE_BYTES = 64 << 20

# In order of preference: SQL type, the only spellings that it writes, and a check beyond spelling.
INTEGER = "^(0|-?[1-9][0-9]*)$"
DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
INFERRED = [
    ("integer", INTEGER, "TRY_CAST({} AS INTEGER) IS NOT NULL"),
    ("bigint", INTEGER, "TRY_CAST({} AS BIGINT) IS NOT NULL"),
    ("numeric", r"^(0|-?[1-9][0-9]*|-?(0|[1-9][0-9]*)\.[0-9]+)$", r"NOT regexp_matches({}, '^-0\.0+$')"),
    ("date", f"^{DAY}$", "TRY_CAST({} AS DATE) >= DATE '0001-01-01'"),
    ("timestamp without time zone", rf"^{DAY} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(\.[0-9]{{0,5}}[1-9])?$",
     "TRY_CAST({} AS TIMESTAMP) >= TIMESTAMP '0001-01-01'"),
]


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
        for name, type_ in self.types.items():
            if not TYPE.fullmatch(type_):
                raise SettingError(f"tap-csv, entity {self.entity}: types.{name}={type_!r} is not the name of a type.")

    def files(self) -> list[Path]:
        """The file, those in the folder (*.csv), or those that the pattern matches, in order of their names."""
        pattern = project.root() / self.path
        if pattern.is_dir():
            found = sorted(pattern.glob("*.csv"))
        elif glob.has_magic(self.path):
            found = sorted(Path(match) for match in glob.glob(str(pattern), recursive=True))
        else:
            found = [pattern]
        missing = [path for path in found if not path.is_file()]
        if missing or not found:
            raise SourceError(
                f"tap-csv, entity {self.entity}: no file {missing[0] if missing else pattern}. Put it there, or change "
                "the entity's path under tap-csv in meltano.yml, and run again."
            )
        return found


@dataclass(frozen=True)
class Dialect:
    """How a file writes its fields."""

    delimiter: str
    quote: str
    escape: str

    def options(self) -> str:
        """As arguments of DuckDB's read_csv."""
        return ", ".join(f"{name}={_literal(value)}" for name, value in vars(self).items())


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class CsvEntity:
    """The files of one declaration, opened: decoded, dialect known, header checked."""

    def __init__(self, declaration: Declaration, folder: Path, *, whole: bool = True) -> None:
        """`folder` takes what has to be decoded. Not `whole`: only the header's lines are looked at."""
        self.declaration = declaration
        self.sources = declaration.files()
        self.paths = [self._decoded(source, folder, whole) for source in self.sources]
        self.dialect = self._dialect()
        headers = [self._header(source, path) for source, path in zip(self.sources, self.paths, strict=True)]
        for source, header in zip(self.sources, headers, strict=True):
            if header != headers[0]:
                raise BadFileError(source, 1, f"header {header} differs from {headers[0]} in {self.sources[0]}")
        self.header = headers[0]
        self.names = self._names(self.sources[0], self.header)

    def _decoded(self, source: Path, folder: Path, whole: bool) -> Path:
        """The file itself where it is UTF-8 already, else a decoded copy."""
        encoding = self.declaration.encoding or _byte_order_mark(source) or "utf-8"
        try:
            encoding = codecs.lookup(encoding).name
        except LookupError:
            raise SettingError(f"tap-csv, entity {self.declaration.entity}: no encoding {encoding!r}.") from None
        if encoding == "utf-8" and not _byte_order_mark(source):
            for _ in _decode(source, encoding, whole):
                pass
            return source
        path = folder / f"decoded-{self.declaration.entity}-{self.sources.index(source)}.csv"
        with path.open("x", encoding="utf-8", newline="") as file:
            for number, text in enumerate(_decode(source, encoding, whole)):
                file.write(text.removeprefix("\ufeff") if number == 0 else text)
        return path

    def _dialect(self) -> Dialect:
        """Declared, else sniffed: the delimiter off the header, quote and escape by DuckDB."""
        declared = self.declaration
        with self.paths[0].open("rb") as file:
            head = file.readline(LINE_BYTES).decode("utf-8", "replace")
        counts = Counter(char for char in re.sub('"[^"]*"', "", head) if char in DELIMITERS)
        delimiter = declared.delimiter or (counts.most_common(1)[0][0] if counts else ",")
        quote, escape = '"', '"'
        try:
            found = duckdb.execute(
                "SELECT Quote, Escape FROM sniff_csv(?, delim=?, header=true)",
                [glob.escape(str(self.paths[0])), delimiter],
            ).fetchone()
            if found and found[0] == "'" or found[1] == "\\":
                quote, escape = found[0], found[1]
        except duckdb.Error:
            pass  # a file that DuckDB can't make sense of is refused, with its line, when it is read
        quote = declared.quote or (quote if quote in "\"'" else '"')
        return Dialect(delimiter, quote, declared.escape or (escape if escape == "\\" else quote))

    def _header(self, source: Path, path: Path) -> list[str]:
        """The first line's fields, as text."""
        try:
            row = duckdb.execute(
                f"SELECT * FROM read_csv(?, header=false, all_varchar=true, auto_detect=true, sample_size=1, "  # noqa: S608
                f"strict_mode=false, null_padding=true, comment='', skip=0, nullstr='\\x00', hive_partitioning=false, {self.dialect.options()}) "
                "LIMIT 1",
                [glob.escape(str(path))],
            ).fetchone()
        except duckdb.Error as error:
            raise BadFileError(source, 1, f"no header can be read ({_first_line(error)})") from None
        if row is None:
            raise BadFileError(source, None, "it is empty; expected a header at least")
        return [name or "" for name in row]

    def _names(self, source: Path, header: Sequence[str]) -> list[str]:
        """Column names after `rename`; each must be there, once, and as long as PostgreSQL allows."""
        unknown = {*self.declaration.rename, *self.declaration.types} - {*header, *self.declaration.rename.values()}
        names = [self.declaration.rename.get(name, name) for name in header]
        unknown |= {*self.declaration.keys} - {*names}
        if unknown:
            raise BadFileError(source, 1, f"the declaration names columns that the header has not: {sorted(unknown)}")
        how = f"(or rename it: `rename: {{…}}` of entity {self.declaration.entity})"
        for name, times in Counter(names).items():
            if not name:
                raise BadFileError(source, 1, f"column {names.index(name) + 1} has no name {how}")
            if times > 1:
                raise BadFileError(source, 1, f"column {name!r} stands {times} times in the header {how}")
            if len(name.encode()) > NAME_BYTES:
                raise BadFileError(
                    source, 1, f"column {name!r} has {len(name.encode())} bytes, and PostgreSQL takes {NAME_BYTES} {how}"
                )
            if "\x00" in name or "\n" in name or "\r" in name:
                raise BadFileError(source, 1, f"column {name!r} has a control character in its name {how}")
        return names

    def columns(self) -> list[Column]:
        """Columns as far as the header tells; types not declared are text until the file is read."""
        declared = self.declaration.types
        return [
            Column(name, declared.get(name) or declared.get(original) or "text", comment=_comment(name, original))
            for name, original in zip(self.names, self.header, strict=True)
        ]

    def convert(
        self, wanted: Sequence[str], path: Path, progress: database.Progress
    ) -> tuple[list[Column], database.Copied]:
        """Write the wanted columns to `path` in our dialect; columns with their types, and what was written."""
        with duckdb.connect(config={"memory_limit": "128MB", "threads": 1}) as connection:
            self._open_table(connection)
            columns = self._inferred(connection, wanted)
            rows = self._write(connection, columns, path, progress)
        return columns, rows

    def _open_table(self, connection: duckdb.DuckDBPyConnection) -> None:
        """A view `entity` of the files' text; DuckDB notes the lines that it can't read in reject_errors."""
        types = ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in self.names)
        paths = ", ".join(_literal(glob.escape(str(path))) for path in self.paths)
        connection.execute(
            f"CREATE VIEW entity AS SELECT * FROM read_csv([{paths}], columns={{{types}}}, auto_detect=false, "  # noqa: S608
            "header=true, nullstr='', allow_quoted_nulls=false, null_padding=false, strict_mode=true, comment='', "
            f"store_rejects=true, hive_partitioning=false, max_line_size={LINE_BYTES}, {self.dialect.options()})"
        )

    def _inferred(self, connection: duckdb.DuckDBPyConnection, wanted: Sequence[str]) -> list[Column]:
        """Types over the whole of the files; this pass also finds every line that can't be read."""
        columns = [column for column in self.columns() if column.name in set(wanted)]
        declared = {*self.declaration.types, *(self.declaration.rename.get(n) for n in self.declaration.types)}
        checks = []
        for column in columns:
            name = _identifier(column.name)
            checks.append(f"bool_and({name} IS NOT NULL)")
            checks += [
                f"bool_and(regexp_matches({name}, '{spelling}') AND {check.format(name)}) FILTER ({name} IS NOT NULL)"
                for _, spelling, check in INFERRED
            ]
        try:
            # fetchall: DuckDB's tables of rejected lines are there only once the result is read to its end.
            answer = connection.execute(f"SELECT count(*), {', '.join(checks)} FROM entity").fetchall()[0]  # noqa: S608
        except duckdb.Error as error:
            raise BadFileError(", ".join(map(str, self.sources)), None, _first_line(error)) from None
        self._refuse_rejected(connection)
        return list(self._typed(columns, answer[0], iter(answer[1:]), declared))

    def _typed(
        self, columns: Sequence[Column], rows: int, answers: Iterator[bool | None], declared: set[str | None]
    ) -> Iterator[Column]:
        for column in columns:
            never_null = bool(next(answers)) and rows > 0
            fitting = [type_ for type_, *_ in INFERRED if next(answers)]
            type_ = column.type if column.name in declared else next(iter(fitting), "text")
            key = column.name in self.declaration.keys
            if key and rows and not never_null:
                raise BadFileError(
                    ", ".join(map(str, self.sources)), None, f"key column {column.name!r} has rows without a value"
                )
            yield Column(column.name, type_, not key, None, column.comment)

    def _refuse_rejected(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Any line that can't be read refuses the file."""
        bad = connection.execute(
            "SELECT s.file_path, e.line, any_value(e.error_message), count(*) OVER () FROM reject_errors e "
            "JOIN reject_scans s USING (scan_id, file_id) GROUP BY ALL ORDER BY s.file_path, e.line LIMIT 1"
        ).fetchone()
        if bad:
            path, line, message, lines = bad
            source = self.sources[[str(p) for p in self.paths].index(path)]
            more = f" ({lines} lines of the file are like that)" if lines > 1 else ""
            raise BadFileError(source, line, " ".join(message.split()).rstrip(".") + more)

    def _write(
        self, connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], path: Path, progress: database.Progress
    ) -> database.Copied:
        """The rows in their order, quoted by our rules."""
        names = [_identifier(column.name) for column in columns]
        connection.execute(f"SELECT {dialect.sql_line(names)} FROM entity")  # noqa: S608
        raw = database.HashedFile(path, "xb", progress)
        rows = 0
        with io.BufferedWriter(raw, database.BUFFER) as file:
            file.write(dialect.header(columns))
            while chunk := connection.fetchmany(2_000):
                file.write("".join(f"{line}\n" for (line,) in chunk).encode())
                rows += len(chunk)
        return database.Copied(rows, raw.size, raw.sha256)


def _comment(name: str, original: str) -> str | None:
    return f"CSV header: {original}" if name != original else None


def _first_line(error: duckdb.Error) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def _byte_order_mark(path: Path) -> str | None:
    """The encoding that the file's first bytes declare."""
    with path.open("rb") as file:
        head = file.read(4)
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    return next((encoding for mark, encoding in marks.items() if head.startswith(mark)), None)


def _decode(path: Path, encoding: str, whole: bool) -> Iterator[str]:
    """The file's text in chunks; a byte that isn't of the encoding, or a NUL, is refused with its line."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with path.open("rb") as file:
        while True:
            chunk = file.read(database.BUFFER)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                line += bytes(error.object[: error.start]).count(b"\n")
                raise BadFileError(
                    path, line,
                    f"byte 0x{error.object[error.start]:02x} is not {encoding} ({error.reason}). Declare the file's "
                    "encoding, such as `encoding: cp1252` or `encoding: latin-1`",
                ) from None
            if "\x00" in text:
                line += text[: text.index("\x00")].count("\n")
                raise BadFileError(path, line, "a NUL character, which PostgreSQL's text can't hold")
            line += text.count("\n")
            yield text
            if not chunk or not whole:
                return


def declarations(settings: Sequence[Mapping[str, Any]]) -> list[Declaration]:
    """The setting `files`, each entity once."""
    found = [Declaration(**entry) for entry in settings]
    for entity, times in Counter(declaration.entity for declaration in found).items():
        if times > 1:
            raise SettingError(f"tap-csv: entity {entity!r} is declared {times} times. Give a pattern as its path.")
    return found
