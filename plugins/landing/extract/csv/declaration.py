"""CSV files of any dialect -> ours: found, checked, parsed by DuckDB, typed without loss, written again.

Field text stays as it came. What DuckDB reads has to agree with what csv_text.py read before.

A bad row is refused with its file, or quarantined: what csv_text.py can't read stays out of the copy that DuckDB gets,
and what is no value of its type, or no key, DuckDB finds there.
"""

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
            raise SettingError(f"{where}: not a name for a table. Expected 1 to {NAME_BYTES} bytes without control "
                               "characters. Correct it under tap-csv in meltano.yml.")
        if "\0" in self.path:
            raise SettingError(f"{where}: path={self.path!r} can be no path.")
        for name, type_ in self.types.items():
            if not TYPE.fullmatch(type_):
                raise SettingError(f"{where}: types.{name}={type_!r} is not the name of a type.")
            if not self.lossy and declared_types.loss_unknown(type_):
                raise SettingError(
                    f"{where}: types.{name}={type_!r} may change values when the warehouse reads them, and only "
                    "PostgreSQL can tell which. Declare it as text, or set `lossy: true` for this entity.")
        for name in ("delimiter", "quote", "escape"):
            value = getattr(self, name)
            if value is not None and (len(value) != 1 or value in "\r\n\0"):
                raise SettingError(f"{where}: {name}={value!r} is not one character (in YAML a tab is \"\\t\").")
        if self.delimiter in {self.quote or '"', self.escape or '"'}:
            raise SettingError(f"{where}: {self.delimiter!r} can't be the delimiter and quote or escape as well.")
        try:
            "".encode(self.encoding or "utf-8")
        except (LookupError, ValueError):
            raise SettingError(f"{where}: encoding={self.encoding!r} is not one that Python knows.") from None

    def files(self) -> list[Path]:
        """The file, those in the folder (*.csv), or those that the pattern matches, in order of their names."""
        pattern = settings.root() / self.path
        found: dict[Path, Path] = {}  # by where they truly lie
        try:
            for path in self._matches(pattern):
                if not path.is_file():
                    raise self._unusable(path, "is not a file" if path.exists() else "does not exist")
                other = found.setdefault(path.resolve(), path)
                if other is not path:  # as a link to a folder above it makes every file: without end
                    raise self._unusable(path, f"is the same file as {other}, and its rows would come twice")
        except OSError as error:
            raise self._unusable(pattern, f"can't be looked at ({error.strerror})") from None
        if not found:
            raise self._unusable(pattern, "is a folder without a *.csv" if pattern.is_dir() else "does not exist")
        return sorted(found.values())

    def _matches(self, pattern: Path) -> Iterator[Path]:
        if pattern.is_dir():
            listed = (path for path in pattern.iterdir() if path.suffix.lower() == ".csv" and path.name[0] != ".")
            return iter(sorted(listed))
        if glob.has_magic(self.path) and not pattern.exists():
            return map(Path, sorted(glob.iglob(str(pattern), recursive=True)))  # errors, too, in one order
        return iter([pattern])

    def _unusable(self, path: Path, what: str) -> SourceError:
        return SourceError(
            f"tap-csv, entity {self.entity}: {path} {what}. Nothing of this source's date was committed; put the file "
            "there, or change the entity's path under tap-csv in meltano.yml, and run again."
        )


def declarations(settings: Sequence[Mapping[str, Any]], **defaults: Any) -> list[Declaration]:
    """The setting `files`, each entity once; `defaults` are for what an entry leaves out."""
    found = [Declaration(**defaults | {name: value for name, value in entry.items() if value is not None})
             for entry in settings]
    for entity, times in Counter(declaration.entity for declaration in found).items():
        if times > 1:
            raise SettingError(f"tap-csv: entity {entity!r} is declared {times} times. Give a pattern as its path.")
    return found
