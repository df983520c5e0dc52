"""Entries of tap-csv's setting `files`: one entity, its files and how to read them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

from landing.core.dates import today
from landing.core.errors import SettingError
from landing.extract.csv import rules
from landing.extract.csv.after_landing import AfterLanding
from landing.extract.csv.dated_path import DatedPath
from landing.extract.csv.files import EntityFiles
from landing.extract.csv.rules import Rule
from landing.extract.csv.value_settings import OPTIONS, ValueSettings
from landing.model import declared_types
from landing.model.schema import NAME_BYTES, TYPE
from landing.storage.base import Object
from landing.storage.names import check_path

CONTROL = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Declaration:
    """One entry of the setting `files`, for one date."""

    entity: str
    path: str
    day: date = field(default_factory=today)
    keys: list[str] = field(default_factory=list)
    delimiter: str | None = None
    encoding: str | None = None
    quote: str | None = None
    escape: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    null_values: Any = None
    true_values: Any = None
    false_values: Any = None
    decimal_comma: Any = None
    date_format: Any = None
    normalize: Any = None
    derive: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, str] = field(default_factory=dict)
    lossy: bool = False
    long_headers: str = "fail"
    metadata: bool = False
    load: str = "replace"
    on_duplicate_key: str = "fail"
    on_bad_rows: str = "fail"
    max_bad_rows: int = 0
    after_landing: Any = None
    protect: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"tap-csv, entity {self.entity!r}"
        if not self.entity or len(self.entity.encode()) > NAME_BYTES or CONTROL.search(self.entity):
            raise SettingError(f"{where}: not a valid table name. Expected 1 to {NAME_BYTES} bytes without control "
                               "characters. Correct it under tap-csv in meltano.yml.")
        if "\0" in self.path:
            raise SettingError(f"{where}: path={self.path!r} contains a NUL character.")
        try:
            check_path(self.path)
        except ValueError as error:
            raise SettingError(f"{where}: path={self.path!r} {error}. Correct it, and run again.") from None
        try:
            DatedPath(self.path)
        except ValueError as error:
            raise SettingError(f"{where}: path={self.path!r} {error}. Use {{date}} for the date of the run as in "
                               f"{self.day}, {{date:%Y%m%d}} for any other format, and {{{{ and }}}} for braces in the "
                               "names of files.") from None
        try:
            types = self.values.types
            self.rules  # noqa: B018 (likewise)
            self.after  # noqa: B018 (checked when settings are read)
        except ValueError as error:
            raise SettingError(f"{where}: {error}. Correct it under tap-csv in meltano.yml.") from None
        for name, type_ in types.items():
            if not TYPE.fullmatch(type_):
                raise SettingError(f"{where}: types.{name}={type_!r} is not a type name.")
            if not self.lossy and declared_types.loss_unknown(type_):
                raise SettingError(
                    f"{where}: types.{name}={type_!r} may change values on load, and only PostgreSQL can tell which. "
                    "Declare it as text, or set `lossy: true` for this entity.")
        for name in ("delimiter", "quote", "escape"):
            value = getattr(self, name)
            if value is not None and (len(value) != 1 or value in "\r\n\0"):
                raise SettingError(f"{where}: {name}={value!r} is not one character (in YAML a tab is \"\\t\").")
        if self.delimiter in {self.quote or '"', self.escape or '"'}:
            raise SettingError(f"{where}: {self.delimiter!r} is both the delimiter and the quote or escape character.")
        try:
            "".encode(self.encoding or "utf-8")
        except (LookupError, ValueError):
            raise SettingError(f"{where}: encoding={self.encoding!r} is not a Python encoding.") from None

    @cached_property
    def values(self) -> ValueSettings:
        """How values are read."""
        return ValueSettings.of(self)

    @cached_property
    def rules(self) -> list[Rule]:
        """The rules of single columns."""
        return rules.declared(self.columns)

    @cached_property
    def after(self) -> AfterLanding:
        """Where its files go."""
        path = DatedPath(self.path).on(self.day)
        return AfterLanding(path) if self.after_landing is None else AfterLanding.of(self.after_landing, path, self.day)

    @property
    def columns_named(self) -> dict[str, Collection[str]]:
        """The columns that each option names."""
        named = {option: getattr(self, option) for option in ("keys", "types", "rename", "columns")}
        return named | {option: [column for column, options in self.values.columns.items() if option in options]
                        for option in OPTIONS}

    def files(self, *, needed: bool = True) -> list[Object]:
        """The files for the date, by name: see EntityFiles."""
        return EntityFiles(self.entity, DatedPath(self.path), self.day).found(needed=needed)


def declarations(settings: Sequence[Mapping[str, Any]], day: date, **defaults: Any) -> list[Declaration]:
    """Read the setting `files`.

    Args:
        settings: Its entries.
        day: The date of the run.
        defaults: Values for fields that an entry omits.

    Raises:
        SettingError: An entry is invalid, or two declare the same entity.
    """
    found = [Declaration(day=day, **defaults | {name: value for name, value in entry.items() if value is not None})
             for entry in settings]
    for entity, times in Counter(declaration.entity for declaration in found).items():
        if times > 1:
            raise SettingError(f"tap-csv: entity {entity!r} is declared {times} times. Declare it once, with a "
                               "pattern as its path.")
    return found
