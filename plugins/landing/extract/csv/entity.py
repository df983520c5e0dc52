"""An entity of CSV files: its files have the same columns, in whatever order, and are landed as one table.

text.py reads each file first and checks the form of every row. DuckDB parses the same rows, infers types, checks
declared types and keys; both readers must find the same fields. Field text is landed unchanged, unless options say how
values are read: see conversion.py.

A row that fails is refused with its file, or quarantined: with a quarantine, DuckDB reads a copy without the rows that
text.py rejects.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from landing.core.errors import BadFileError, SettingError
from landing.core.progress import Progress
from landing.extract.csv import checks, conversion, inference, keys, provenance
from landing.extract.csv.appending import Appending
from landing.extract.csv.checks import Checks
from landing.extract.csv.contract import Contract
from landing.extract.csv.conversion import ColumnReading
from landing.extract.csv.declaration import Declaration
from landing.extract.csv.dialect import dialect_of
from landing.extract.csv.fields import Fields
from landing.extract.csv.header import column_names, column_order, refuse_differences
from landing.extract.csv.quarantine import Quarantine
from landing.extract.csv.text import CsvText, RowsHash
from landing.extract.csv.writing import write_rows
from landing.model import equality
from landing.model.schema import Column, Reading
from landing.postgres.copy import Copied
from landing.protection.columns import TableProtection
from landing.storage.base import Object

if TYPE_CHECKING:
    from landing.extract.csv.parsed import ParsedRows

logger = logging.getLogger(__name__)


class CsvEntity:
    """The files of one declaration. Opening them reads no more than their headers."""

    def __init__(self, declaration: Declaration, texts: Sequence[CsvText] | None = None) -> None:
        """`texts`: the files, if other than those that the declaration finds."""
        self.declaration = declaration
        self.texts = [CsvText(one, declaration.encoding) for one in declaration.files()] if texts is None else texts
        first = self.texts[0]
        try:
            self.dialect = dialect_of(first.sample(), declaration.delimiter, declaration.quote, declaration.escape)
        except ValueError as error:
            raise BadFileError(first.place, 1, str(error)) from None
        self.header = first.header(self.dialect)
        self.names = column_names(declaration, self.header, first.place)
        self.width = len(self.names)  # columns of the file, and derived ones
        headers = {text.place: text.header(self.dialect) for text in self.texts[1:]}
        if declaration.after.failed:
            for place, header in headers.items():
                column_names(declaration, header, place)
        refuse_differences(first.place, self.header, headers)
        for text in self.texts[1:]:
            text.order = column_order(headers[text.place], self.header)
        self.readings = [
            ColumnReading.of(declaration.values, [name] if original in self.names else [name, original],
                             f"tap-csv, entity {declaration.entity!r}: column {name!r}")
            for name, original in zip(self.names, self.header, strict=False)]
        self.readings += [self._derived_reading(name) for name in self.names[len(self.header):]]
        types = {index: one.type for index, one in enumerate(self.readings) if one.type}
        self.contract = Contract(declaration, self.names[:], self.header, types)
        if declaration.metadata:
            self.names += [column.name for column in provenance.COLUMNS]
        self.converted: dict[str, Reading] = {}  # by column, of what convert() wrote
        self.keys = [self.names[self.contract.position(key)] for key in declaration.keys]
        self.duplicates = 0  # rows that convert() dropped by on_duplicate_key
        self.replacing = 0  # rows that convert() wrote in place of those of an earlier date

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(text.size for text in self.texts)

    def columns(self) -> list[Column]:
        """Columns as far as the header tells; types not declared are text until the file is read."""
        return [
            Column(name, self._declared(index) or "text",
                   comment=f"CSV header: {original}" if name != original else None)
            for index, (original, name) in enumerate(zip(self.header, self.names, strict=False))
        ] + [Column(name, self._declared(index) or "text")
             for index, name in enumerate(self.names[:self.width]) if index >= len(self.header)
        ] + (provenance.COLUMNS if self.declaration.metadata else [])

    def _derived_reading(self, name: str) -> ColumnReading:
        """A new column has no text in the files that could be read in some way."""
        values = self.declaration.values
        if options := [*values.columns.get(name, ())]:
            raise SettingError(f"tap-csv, entity {self.declaration.entity!r}: the derived column {name!r} is not in "
                               f"the files, so {', '.join(options)} cannot be applied to it. Nothing was read. Correct "
                               "it under tap-csv in meltano.yml, and run again.")
        return ColumnReading(values.types.get(name), Reading())

    def _declared(self, index: int) -> str | None:
        """The column's declared type."""
        return self.readings[index].type

    def convert(
        self, wanted: Sequence[str], folder: Path, target: Object, progress: Progress,
        quarantine: Quarantine | None = None, duplicates: Quarantine | None = None,
        before: Mapping[str, str] | None = None, protection: TableProtection | None = None,
        appending: Appending | None = None,
    ) -> tuple[list[Column], Copied]:
        """Write the wanted columns in our dialect.

        Args:
            wanted: Names of the columns.
            folder: For copies of files that must be decoded first, or read without rejected rows.
            target: The new file.
            progress: Counts the written chunks.
            quarantine: Takes rejected rows; without it the first one is an error.
            duplicates: Takes rows whose key an earlier row has.
            before: Inferred types by column at an earlier date; a type that differs is logged.
            protection: Of the wanted columns.
            appending: What the rows are added to.

        Returns:
            The columns with their types, and what was written.

        Raises:
            BadFileError: A file or a row cannot be landed.
        """
        from landing.extract.csv.parsed import ParsedRows  # here: discovery needs no DuckDB

        if protection:
            self.contract.refuse_leaks(protection.methods)
        reject, read, wanted = quarantine and quarantine.take, RowsHash(), set(wanted)
        measures = [text.measured(self.dialect, folder / f"{n}.csv", reject, read) for n, text in enumerate(self.texts)]
        indexes = [index for index, name in enumerate(self.names[:self.width]) if name in wanted]
        with ParsedRows(self.texts, self.dialect, self.contract, len(self.header), measures, folder,
                        private=protection is not None) as rows:
            columns = self._typed(rows, indexes, quarantine, protection.methods if protection else ())
            self._log_type_changes(rows, dict(zip(indexes, columns, strict=True)), before or {})
            self._handle_duplicates(rows, dict(zip(indexes, columns, strict=True)), duplicates, appending)
            fields = Fields(len(self.header), indexes, columns, self.names, protection)
            columns = fields.columns + [column for column in self.columns()[self.width:] if column.name in wanted]
            copied = write_rows(rows, columns, fields, read, target, progress)
        for text in self.texts:
            text.refuse_changed()
        if quarantine and quarantine.rows and not copied.rows:
            raise BadFileError(self.declaration.path, None, f"all {quarantine.rows:,} rows are rejected",
                               files=[text.place for text in self.texts])
        return columns, copied

    def _typed(self, rows: ParsedRows, indexes: Sequence[int], quarantine: Quarantine | None,
               protected: Container[str]) -> list[Column]:
        """Check all values and infer types; rows that fail go to the quarantine, or the first one is refused."""
        needed = sorted({*indexes, *self.contract.used})
        columns, readings = self.columns(), {index: self.readings[index] for index in needed}
        filled = {index: f"r{index}" for index in self.contract.derived if index < len(self.header)}
        rows.convert(filled | self._expressions(readings))
        failing = Checks([*(check for index in needed for check in self._checks(index)),
                          *self.contract.checks(indexes, protected)], protected)
        kinds = {index: conversion.kind(one, f"c{index}") for index, one in readings.items() if not one.type}
        masks = rows.survey(kinds, failing, quarantine.limit + 1 if quarantine else 1)
        guessed = {index: conversion.inferred(readings[index], mask) for index, mask in masks.items()}
        rows.convert(self._expressions({index: one for index, one in guessed.items() if readings[index].guesses}))
        for code, check in failing.repeated():
            type_ = (readings | guessed)[check.index].type
            keys.reject_repeated(rows, equality.value(type_, f"c{check.index}"), code, check.found)
        self._reject(rows, failing, quarantine)
        self.converted = self._conversions(readings | guessed)
        typed = {index: structs.replace(columns[index], type=guessed[index].type, evidence=mask != 0)
                 for index, mask in masks.items()}
        return [structs.replace(typed.get(index, columns[index]), nullable=not self._is_key(index))
                for index in indexes]

    def _expressions(self, readings: Mapping[int, ColumnReading]) -> dict[int, str]:
        """DuckDB's expressions of the columns that are converted, by index."""
        return {index: conversion.converted(one.reading, one.type, f"r{index}")
                for index, one in readings.items() if one.reading != Reading()}

    def _reject(self, rows: ParsedRows, failing: Checks, quarantine: Quarantine | None) -> None:
        for one in rows.failures():
            failure = failing.failure(one.code, one.row, one.found)
            if quarantine is None:
                where = f"column {failure.column!r}: " if failure.column else ""
                raise one.text.refused(f"{where}{failure.reason}", failure.column)
            quarantine.take(one.text.rejected(failure.reason, failure.column, failure.rule))

    def _conversions(self, readings: Mapping[int, ColumnReading]) -> dict[str, Reading]:
        """What the manifest says of each column whose values are not those of the file."""
        found = {index: one.reading for index, one in readings.items()}
        found |= {index: structs.replace(found[index], derived=sql.text)
                  for index, sql in self.contract.derived.items()}
        return {self.names[index]: reading for index, reading in sorted(found.items()) if reading != Reading()}

    def _is_key(self, index: int) -> bool:
        return self.names[index] in self.keys

    def _checks(self, index: int) -> list[checks.Check]:
        name, key, reading = self.names[index], self._is_key(index), self.readings[index]
        found = [checks.unread(index, name, reading)] if conversion.reason(reading.reading, reading.type) else []
        found += [checks.missing_key(index, name)] if key else []
        if type_ := self._declared(index):
            found += filter(None, [checks.declared_type(index, name, type_, lossy=self.declaration.lossy and not key)])
        return found

    def _log_type_changes(self, rows: ParsedRows, columns: Mapping[int, Column], before: Mapping[str, str]) -> None:
        """Warn of each inferred type that differs from `before`, with the first line that makes it differ."""
        for index, column in columns.items():
            old = before.get(column.name, column.type)
            if old == column.type or not column.evidence or self._declared(index):
                continue
            number = rows.query(f"SELECT min(number) FROM accepted WHERE {inference.kind(f'c{index}')} "  # noqa: S608
                                f"& ~{inference.allowed(old)} <> 0").fetchone()[0]
            where = ""
            if number and old != "text" and not self.readings[index].guesses:
                _, text, _ = next(rows.chosen([number]))
                where = f", since line {text.first} of {text.place}"
            logger.warning(
                "%s.%s: inferred type %s, but %s for the date before%s. Loading will widen the column, for all dates, "
                "to a type that holds both; a column widened to text stays text. To reject or quarantine such rows "
                "instead, declare types: {%s: %s}.",
                self.declaration.entity, column.name, column.type, old, where, column.name, old)

    def _handle_duplicates(self, rows: ParsedRows, columns: Mapping[int, Column], quarantine: Quarantine | None,
                           appending: Appending | None) -> None:
        """Quarantine, drop, prefer or refuse rows whose key another row has, depending on on_duplicate_key."""
        values = [equality.value(column.type, f"c{index}") for index, column in columns.items() if self._is_key(index)]
        if not values:
            return
        keep_last, base = self.declaration.on_duplicate_key == "keep_last", ""
        found = keys.find_duplicates(rows, values, keep_last=keep_last)
        if appending:
            base = str(appending.base.last.manifest.extracted_at)
            known = appending.mark_known(rows, columns)
            self.replacing = known if keep_last else 0
            if known and not keep_last:
                rows.query("INSERT INTO duplicates SELECT DISTINCT number, 0 FROM known")
                found += known
        self.duplicates = 0 if quarantine else found
        if found and keep_last:
            logger.warning("%s: dropped %s rows with duplicate keys, all but the last of each key.",
                           self.declaration.entity, f"{found:,}")
        elif found:
            self._refuse_duplicates(rows, found, quarantine, base)

    def _refuse_duplicates(self, rows: ParsedRows, found: int, quarantine: Quarantine | None, base: str) -> None:
        for text, first in keys.first_duplicates(rows, quarantine.limit + 1 if quarantine else 1, base):
            reason = f"duplicate key ({', '.join(self.keys)}), first in {first}"
            if quarantine:
                quarantine.take(text.rejected(reason, rule=checks.KEY))
            elif self.declaration.on_duplicate_key == "keep_first":
                logger.warning("%s: dropped %s rows with duplicate keys. The first is line %d of %s: %s.",
                               self.declaration.entity, f"{found:,}", text.first, text.place, reason)
            else:
                raise text.refused(f"{reason}. To allow it, set on_duplicate_key to keep_first, keep_last or "
                                   "quarantine")
