"""What becomes of a table's columns: protected ones are landed as text, dropped ones not at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs

from landing.core.errors import SettingError
from landing.model.schema import Column, Protection, Table
from landing.protection import rules
from landing.protection.keys import Key, KeyRing
from landing.protection.marks import Marks
from landing.protection.methods import DROP, ENCRYPT, MASK, PLAIN, TOKEN, encryption, method_of
from landing.protection.rules import Rule, Tables


@dataclass(frozen=True)
class TableProtection:
    """The methods of a table's columns, by name, and the keys."""

    methods: Mapping[str, str]
    keys: KeyRing

    def kept(self, columns: Sequence[Column]) -> list[Column]:
        """Those of the columns that are landed, as they are at the source."""
        return [column for column in columns if self.methods.get(column.name) != DROP]

    def dropped(self, columns: Sequence[Column]) -> list[str]:
        """The names of the others."""
        return [column.name for column in columns if self.methods.get(column.name) == DROP]

    def landed(self, columns: Sequence[Column]) -> list[Column]:
        """The columns as they are landed. Raises SettingError if a key is missing."""
        return [self._landed(column) for column in self.kept(columns)]

    def _landed(self, column: Column) -> Column:
        if not (method := self.methods.get(column.name)):
            return column
        key = self.key_of(method)
        protection = Protection(method, column.type, key and key.id, key and key.check)
        return structs.replace(column, type="text", protection=protection)

    def key_of(self, method: str) -> Key | None:
        """The key of a method; None if it has none. Raises SettingError if it is missing."""
        if method == TOKEN:
            return self.keys.token
        return self.keys.encryption if method == ENCRYPT else None

    def differing(self, table: Table, names: Collection[str]) -> list[str]:
        """Those of the columns that a landed table has under another method, or with tokens of another key.

        Encrypted values name their key, so that may differ.
        """
        landed = {column.name: column.protection for column in table.columns}
        before = {name: (one.method, one.check if one.method == TOKEN else None) if one else (PLAIN, None)
                  for name, one in landed.items()} | dict.fromkeys(table.dropped, (DROP, None))
        return [name for name in names if name in before and before[name] != self._way(name)]

    def _way(self, name: str) -> tuple[str, str | None]:
        method = self.methods.get(name, PLAIN)
        return method, self.keys.token.check if method == TOKEN else None

    def marks(self, columns: Sequence[Column]) -> Marks:
        """Marks for the protected ones of the columns, as landed() gives them."""
        return Marks({column.name: method_of(column.protection, self.keys) for column in columns if column.protection})

    def rejected(self, text: str) -> dict[str, str | None]:
        """The text of a rejected row for the quarantine: encrypted or, without a key for that, left out."""
        if key := self.keys.encryption_or_none:
            return {"encrypted": encryption(key)(text.encode()).decode()}
        return {"text": None}


NO_PROTECTION = TableProtection({}, KeyRing({}))


def require_columns(table: str, landed: Sequence[object]) -> None:
    """Raise SettingError for a table none of whose columns would be landed: it could not be loaded."""
    if not landed:
        raise SettingError(f"{table}: no column would be landed, as `select` or `protect` (drop) leave out all of "
                           "them. Nothing was extracted. Leave out the table by `select` in meltano.yml, or keep a "
                           "column, and run again.")


def table_protections(given: Sequence[Rule], tables: Tables, keys: Mapping[str, Sequence[str]]
                      ) -> dict[str, TableProtection]:
    """The protection of each table that has some.

    Args:
        given: The setting.
        tables: The source's tables and their columns.
        keys: Primary keys by table.

    Raises:
        SettingError: A rule matches nothing or takes from a key what makes it one, or a key of protection is missing.
    """
    methods = {table: found for table, found in rules.methods(given, tables).items() if found}
    ring = KeyRing.configured() if methods else KeyRing({})
    protections = {table: TableProtection(found, ring) for table, found in methods.items()}
    for table, protection in protections.items():
        for method in protection.methods.values():
            protection.key_of(method)
        for name in keys[table]:
            if (method := protection.methods.get(name)) in (MASK, DROP):
                raise SettingError(f"protect: {table}.{name} has the method {method} and is part of the key, which "
                                   f"would no longer tell rows apart. Use token or encrypt. {rules.THEN}")
    return protections
