"""Entries of tap-csv's setting `files`: one entity, its files and how to read them."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landing.core import settings
from landing.core.errors import SettingError, SourceError
from landing.extract.csv import declared_types
from landing.model.schema import NAME_BYTES, TYPE

CONTROL = re.compile("[\x00-\x1f\x7f]")


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
    lossy: bool = False
    on_duplicate_key: str = "fail"
    on_bad_rows: str = "fail"
    max_bad_rows: int = 0

    def __post_init__(self) -> None:
        where = f"tap-csv, entity {self.entity!r}"
        if not self.entity or len(self.entity.encode()) > NAME_BYTES or CONTROL.search(self.entity):
            raise SettingError(f"{where}: not a valid table name. Expected 1 to {NAME_BYTES} bytes without control "
                               "characters. Correct it under tap-csv in meltano.yml.")
        if "\0" in self.path:
            raise SettingError(f"{where}: path={self.path!r} contains a NUL character.")
        for name, type_ in self.types.items():
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

    def files(self) -> list[Path]:
        """The file, the *.csv files of a folder, or those that match the pattern, by name.

        Raises:
            SourceError: There is none, or one is not a regular file or occurs twice (by links).
        """
        pattern = settings.root() / self.path
        found: dict[Path, Path] = {}  # by resolved path
        try:
            for path in self._matches(pattern):
                if not path.is_file():
                    raise self._unusable(path, "is not a regular file" if path.exists() else "does not exist")
                other = found.setdefault(path.resolve(), path)
                if other is not path:  # a link to a parent folder repeats every file endlessly
                    raise self._unusable(path, f"is the same file as {other}: its rows would be landed twice")
        except OSError as error:
            raise self._unusable(pattern, f"cannot be read ({error.strerror})") from None
        if not found:
            raise self._unusable(pattern, "is a folder without *.csv files" if pattern.is_dir() else "does not exist")
        return sorted(found.values())

    def _matches(self, pattern: Path) -> Iterator[Path]:
        if pattern.is_dir():
            listed = (path for path in pattern.iterdir() if path.suffix.lower() == ".csv" and path.name[0] != ".")
            return iter(sorted(listed))
        if glob.has_magic(self.path) and not pattern.exists():
            return map(Path, sorted(glob.iglob(str(pattern), recursive=True)))  # errors are in a fixed order, too
        return iter([pattern])

    def _unusable(self, path: Path, what: str) -> SourceError:
        return SourceError(
            f"tap-csv, entity {self.entity}: {path} {what}. Nothing of this source's date was committed. Provide the "
            "file, or change the entity's path under tap-csv in meltano.yml, and run again."
        )


def declarations(settings: Sequence[Mapping[str, Any]], **defaults: Any) -> list[Declaration]:
    """Read the setting `files`.

    Args:
        settings: Its entries.
        defaults: Values for fields that an entry omits.

    Raises:
        SettingError: An entry is invalid, or two declare the same entity.
    """
    found = [Declaration(**defaults | {name: value for name, value in entry.items() if value is not None})
             for entry in settings]
    for entity, times in Counter(declaration.entity for declaration in found).items():
        if times > 1:
            raise SettingError(f"tap-csv: entity {entity!r} is declared {times} times. Declare it once, with a "
                               "pattern as its path.")
    return found
