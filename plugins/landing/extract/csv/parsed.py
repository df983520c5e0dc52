"""An entity's rows as DuckDB parses them, in step with what text.py reads.

DuckDB's columns are c0, c1, …, since its names ignore case. Rows are numbered from 1 over all files, rejected ones too.
"""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import duckdb

from landing.core.errors import BadFileError, SourceError, UnsettledFileError
from landing.extract.csv.checks import Checks
from landing.extract.csv.chosen import ChosenRows
from landing.extract.csv.decoded import RejectedRow
from landing.extract.csv.dialect import Dialect
from landing.extract.csv.text import CsvText, Measure
from landing.model.declared_types import trimmed
from landing.storage.base import Object
from landing.storage.finding import local_path

if TYPE_CHECKING:
    from landing.extract.csv.contract import Contract
    from landing.storage.duckdb_files import ObjectFiles

BATCH = 200  # columns of a query: DuckDB's memory and planning time grow with the number of expressions
THREADS = 1  # DuckDB's parallel reader refuses some files that it reads by one thread
MINIMAL_LINE = 1 << 20  # bytes
MEMORY, COLUMN_MEMORY, ROW_MEMORY = 24 << 20, 512 << 10, 16  # bytes: upper limits; most files need far less
ROWS_MEMORY = 64 << 20  # bytes, MEMORY included: DuckDB searches the keys of more rows in temporary files


@dataclass(frozen=True)
class FailedRow:
    """A row that fails a check: its text, its fields, the code of its first failure, and what was found."""

    text: CsvText
    row: list[str]
    code: int
    found: str | None


class ParsedRows:
    """Relations in DuckDB.

        raw         all rows, as they are in the files
        parsed      likewise with converted and derived values; r0, r1, … are the texts before
        failed      number of each row that fails a check, the code of its first failure, what was found there, and the
                    number of an earlier row that has the same, if that is the reason
        accepted    all other rows, with their number
        duplicates  number of each accepted row whose key an earlier row has, and that row's number
    """

    def __init__(
        self, texts: Sequence[CsvText], dialect: Dialect, contract: Contract, width: int, measures: Sequence[Measure],
        folder: Path, *, private: bool = False,
    ) -> None:
        """Args:
        texts: The files as text.py reads them.
        contract: Has the derived columns.
        width: Number of columns in the files.
        measures: For each text, the file that DuckDB reads, and its size.
        folder: For DuckDB's temporary files.
        private: Whether some columns are protected: temporary files are encrypted, and DuckDB's messages, which may
            quote a row, are not repeated.
        """
        self.texts, self.dialect, self.width, self.measures = texts, dialect, width, measures
        self._contract = contract
        self._line = max(MINIMAL_LINE, *(measure.longest + 1 for measure in measures))
        for_rows = min(ROWS_MEMORY, MEMORY + ROW_MEMORY * sum(measure.rows for measure in measures))
        memory = for_rows + COLUMN_MEMORY * width + 4 * self._line
        self.converted: dict[int, str] = {}
        self._failed = False  # whether `failed` has rows
        self._memory, self._folder, self._private = memory, folder, private
        self._connection = duckdb.connect(config={"memory_limit": f"{memory}B", "threads": THREADS,
                                                  "temp_directory": str(folder / "duckdb"),
                                                  "temp_file_encryption": private})
        self._stored: ObjectFiles | None = None
        self._names = [self._name(text, measure) for text, measure in zip(texts, measures, strict=True)]

    def _name(self, text: CsvText, measure: Measure) -> str:
        """The name by which DuckDB opens a file."""
        if path := local_path(measure.place):
            return str(path)
        if self._stored is None:
            from landing.storage.duckdb_files import ObjectFiles  # here: files of a folder need none

            self._stored = ObjectFiles(self._connection)
        return self._stored.add(measure.place, text.size)

    def __enter__(self) -> ParsedRows:
        self.query("SET enable_progress_bar = false")  # stdout carries the tap's messages
        self.query(f"CREATE VIEW raw AS {self._in_order(self._source())}")
        self.query("CREATE TABLE failed (number BIGINT, code INTEGER, found VARCHAR, first BIGINT)")
        self.query("CREATE TABLE duplicates (number BIGINT, first BIGINT)")
        self.convert({})
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._stored:
            self._stored.release()
        self._connection.close()
        if isinstance(error, duckdb.Error) and self._stored and self._stored.failed:
            place, cause = self._stored.failed
            raise UnsettledFileError(place, None, f"cannot be read ({cause.strerror})") from None
        if isinstance(error, duckdb.OutOfMemoryException) or (
                isinstance(error, duckdb.IOException) and str(self._folder / "duckdb") in str(error)):
            raise self._out_of_space(error) from None
        if isinstance(error, duckdb.Error):
            raise self._refused(error) from None

    def _out_of_space(self, error: duckdb.Error) -> SourceError:
        """The file may be right: what is missing is room for keys and rows that do not fit into memory."""
        names = f"{self.texts[0].place}" + (f" and {len(self.texts) - 1:,} more" if len(self.texts) > 1 else "")
        return SourceError(
            f"{names}: DuckDB ran out of its {self._memory / 1e6:,.0f} MB of memory and of scratch space in "
            f"{self._folder.parent} ({str(error).splitlines()[0]}). The file is not at fault. Nothing of this source's "
            "date was committed. Free disk space there, or set TMPDIR to a folder on a larger disk, and run again. If "
            "there is enough, split the files into several entities.")

    def _source(self) -> str:
        paths = ", ".join(_literal(glob.escape(name)) for name in self._names)
        types = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(self.width))
        dialect = {"delim": self.dialect.delimiter, "quote": self.dialect.quote, "escape": self.dialect.escape}
        return (f"read_csv([{paths}], columns={{{types}}}, "
                "auto_detect=false, header=true, nullstr='', allow_quoted_nulls=false, null_padding=false, "
                "strict_mode=true, comment='', compression='none', hive_partitioning=false, "
                f"max_line_size={self._line}, buffer_size={2 * self._line}, "
                + ", ".join(f"{name}={_literal(value)}" for name, value in dialect.items()) + ")")

    def _in_order(self, source: str) -> str:
        """The rows of a source with the columns of the entity, wherever each file has them."""
        orders = [text.order and tuple(text.order) for text in self.texts]
        kinds = [*dict.fromkeys(orders)]
        if kinds == [None]:
            return f"SELECT * FROM {source}"  # noqa: S608
        fields = ", ".join(f"CASE kind {cases} END AS c{index}" for index in range(self.width) if (cases := " ".join(
            f"WHEN {kind} THEN c{order[index] if order else index}" for kind, order in enumerate(kinds))))
        kind_of = f"list_extract({[kinds.index(order) for order in orders]}, (file_index + 1)::BIGINT)"
        return f"SELECT {fields} FROM (SELECT *, {kind_of} AS kind FROM {source})"  # noqa: S608

    def convert(self, expressions: Mapping[int, str]) -> None:
        """Convert columns, by index, by expressions over their texts r0, r1, …"""
        self.converted |= expressions
        relation = "raw"
        if self.converted:
            texts = [self.text(index) for index in range(self.width)]
            renamed = ", ".join(f"c{index} AS {text}" for index, text in enumerate(texts))
            fields = [f"{self.converted.get(index, text)} AS c{index}" for index, text in enumerate(texts)]
            kept = [self.text(index) for index in self.converted]
            relation = f"(SELECT {', '.join(fields + kept)} FROM (SELECT {renamed} FROM raw))"  # noqa: S608
        self.query(f"CREATE OR REPLACE VIEW parsed AS SELECT * FROM {self._contract.with_derived(relation)}")  # noqa: S608
        self._accept()

    def text(self, index: int) -> str:
        """The name of a column's text as it is in the file."""
        return f"r{index}" if index in self.converted else f"c{index}"

    def _accept(self) -> None:
        some = " WHERE number NOT IN (SELECT number FROM failed)" if self._failed else ""
        self.query(f"CREATE OR REPLACE VIEW accepted AS SELECT * FROM (SELECT row_number() OVER () AS number, * "  # noqa: S608
                   f"FROM parsed){some}")

    @property
    def unquoted(self) -> bool:
        """Whether the landing zone's dialect surely quotes no field of the files."""
        return all(measure.unquoted for measure in self.measures)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB, with the relations above."""
        return self._connection

    @property
    def memory(self) -> int:
        """Bytes that DuckDB may use."""
        return self._memory

    def query(self, statement: str) -> duckdb.DuckDBPyConnection:
        """Execute a statement; its result is valid until the next one."""
        return self._connection.execute(statement)

    def stream(self, statement: str) -> Iterator[tuple]:
        """Rows of a query; other statements may be executed meanwhile."""
        cursor = self._connection.cursor().execute(statement)
        while some := cursor.fetchmany(10_000):
            yield from some

    def survey(self, inferred: Mapping[int, str], checks: Checks, limit: int) -> dict[int, int]:
        """Run the checks, and infer column types from the rows that pass them.

        Args:
            inferred: By index of each column whose type is to be inferred, the expression of a value's bits.
            checks: Rows that fail one are in `failed`, and not in `accepted`.
            limit: How many failures of a check are needed, if that is a function.

        Returns:
            The inference mask of each of these columns.

        Raises:
            BadFileError: DuckDB parses the files into other rows than text.py.
        """
        counted = self._record_failures(checks)
        self._record_judged(checks, limit)
        return self._masks(inferred, counted=counted)

    @property
    def _expected(self) -> int:
        """The number of rows that text.py read."""
        return sum(measure.rows for measure in self.measures)

    def _masks(self, inferred: Mapping[int, str], *, counted: bool) -> dict[int, int]:
        """Inference masks of the accepted rows. Raises BadFileError if the number of rows is not that of text.py."""
        failed, = self.query("SELECT count(*) FROM failed").fetchone()
        masks: dict[int, int] = {}
        for number, indexes in enumerate(self._batches()):
            asked = [index for index in indexes if index in inferred]
            if not asked and (number or counted):
                continue
            bits = "".join(f", coalesce(bit_or({inferred[index]}), 0)" for index in asked)
            rows, *found = self.query(f"SELECT count(*){bits} FROM accepted").fetchone()  # noqa: S608
            if rows + failed != self._expected:
                self.refuse_difference()
            masks |= zip(asked, found, strict=True)
        return masks

    def _batches(self) -> list[range]:
        fields = self._contract.fields
        return [range(start, min(start + BATCH, fields)) for start in range(0, fields, BATCH)]

    def _is_last(self, indexes: range) -> bool:
        return indexes.stop == self._contract.fields

    def _record_failures(self, checks: Checks) -> bool:
        """Fill the table `failed`, and return whether the rows were counted.

        Raises:
            BadFileError: Their number is not that of text.py.
        """
        counted = False
        for indexes in self._batches():
            if code := checks.failure_code(indexes, last=self._is_last(indexes)):
                known = "SELECT number FROM failed"
                also = f"AND number NOT IN ({known})" if counted else f"OR number >= {self._expected}"
                self.fail(
                    f"SELECT number, code, {checks.found()}, NULL FROM "  # noqa: S608
                    f"(SELECT row_number() OVER () AS number, {code} AS code, * "
                    f"FROM {_trimmed('parsed', indexes, code)}) "
                    f"WHERE code IS NOT NULL {also}")
                if not counted:
                    self._require_count()
                counted = True
        return counted

    def _require_count(self) -> None:
        """Of the rows from the last one on, which `failed` has, only the last one must be there."""
        last = self.query(f"SELECT number FROM failed WHERE number >= {self._expected}").fetchmany(2)  # noqa: S608
        if last != [(self._expected,)] * (self._expected > 0):
            self.refuse_difference()
        self.query("DELETE FROM failed WHERE code IS NULL")
        self._refresh()

    def fail(self, query: str) -> None:
        """Have the rows of a query fail, which has the columns of `failed`."""
        self.query(f"INSERT INTO failed {query}")
        self._refresh()

    def _refresh(self) -> None:
        """Have `accepted` leave out what `failed` has."""
        self._failed = self.query("SELECT count(*) FROM failed").fetchone()[0] > 0
        self._accept()

    def _record_judged(self, checks: Checks, limit: int) -> None:
        for code, check in checks.judged():
            column = f"c{check.index}"
            values = self.stream(f"SELECT number, {column} FROM accepted WHERE {column} IS NOT NULL")  # noqa: S608
            numbers = [*itertools.islice((number for number, value in values if not check.judge(value)), limit)]
            if numbers:
                self._connection.execute("INSERT INTO failed SELECT unnest(?::BIGINT[]), ?, NULL, NULL",
                                         [numbers, code])
                self._failed = True
                self._accept()

    def dropped(self) -> Iterator[int]:
        """Numbers of the rows that are not to be landed, in order."""
        numbers = self.stream("SELECT number FROM failed UNION ALL SELECT number FROM duplicates ORDER BY number")
        return (number for number, in numbers)

    def failures(self) -> Iterator[FailedRow]:
        """Each row that fails a check, in order."""
        failed = self.stream("SELECT * FROM failed ORDER BY number")
        if (next_one := next(failed, None)) is None:
            return
        numbers = self.stream("SELECT number FROM failed UNION SELECT first FROM failed WHERE first IS NOT NULL "
                              "ORDER BY number")
        firsts = self.stream("SELECT DISTINCT first FROM failed WHERE first IS NOT NULL ORDER BY first")
        lines: dict[int, str] = {}
        next_first = next(firsts, (None,))
        for number, text, row in self.chosen(number for number, in numbers):
            if (number,) == next_first:
                lines[number], next_first = self.line_of(text), next(firsts, (None,))
            if number == next_one[0]:
                _, code, found, first = next_one
                yield FailedRow(text, row, code, found if first is None else f"{found}, first in {lines[first]}")
                if (next_one := next(failed, None)) is None:
                    return

    def line_of(self, text: CsvText) -> str:
        """Where a text is, in words."""
        return f"line {text.first}" + (f" of {text.place}" if len(self.texts) > 1 else "")

    def texts_again(self) -> Iterator[tuple[CsvText, list[str]]]:
        """Read the texts once more, to name lines: the rows that DuckDB has, in order."""
        for text in self.texts:
            for row in itertools.islice(text.rows(self.dialect, _skip), 1, None):
                yield text, row or [""]

    def chosen(self, numbers: Iterable[int]) -> Iterator[tuple[int, CsvText, list[str]]]:
        """As texts_again(), for some rows by their numbers, which ascend."""
        return iter(ChosenRows(self.texts, self.dialect, numbers))

    def refuse_difference(self) -> NoReturn:
        """Raise BadFileError for the first row that DuckDB parses in another way than text.py."""
        for text in self.texts:
            text.refuse_changed()
        reason = "two CSV parsers read this row differently; is there a space before a quote?"
        parsed = self.stream("SELECT * FROM raw")
        for text, row in self.texts_again():
            if [field or "" for field in next(parsed, ())] != [*row]:
                raise text.refused(reason)
        raise BadFileError(self.texts[-1].place, None, reason, files=self._only())

    def _refused(self, error: duckdb.Error) -> BadFileError:
        """A file that passes text.py, but not DuckDB. Line numbers are those of the file only if it is no copy."""
        message = str(error)
        path = re.search("^  file = (.*)$", message, re.M)
        found = self._names.index(path[1]) if path and path[1] in self._names else None
        text, measure = self.texts[found or 0], self.measures[found or 0]
        line = re.search("CSV Error on Line: ([0-9]+)", message) if measure.complete else None
        reason = re.search("\n([^\n]+)\n\nPossible", message)
        reason = (reason[1] if reason else message.split("\n")[0]).strip(".")
        reason = "DuckDB cannot parse it" if self._private else reason
        return BadFileError(text.place, int(line[1]) if line else None, f"{reason} (read with {self.dialect})",
                            files=[text.place] if found is not None else self._only())

    def _only(self) -> list[Object]:
        """The file at fault, if it can only be one."""
        return [text.place for text in self.texts] if len(self.texts) == 1 else []


def _trimmed(relation: str, indexes: range, code: str | None) -> str:
    """A relation with the columns t0, t1, … that `code` refers to: values without outer spaces."""
    columns = "".join(f", {trimmed(f'c{index}')} AS t{index}" for index in indexes if code)
    return f"(SELECT *{columns} FROM {relation})"  # noqa: S608


def _skip(row: RejectedRow) -> None:
    """It is already quarantined or refused."""


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
