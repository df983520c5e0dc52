"""What becomes of a table's columns: protected ones are landed as text, dropped ones not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs

from landing.core.errors import SettingError
from landing.model.schema import Column, Protection
from landing.protection.keys import KeyRing
from landing.protection.marks import Marks
from landing.protection.methods import DROP, ENCRYPT, MASK, TOKEN, method_of


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
        key = {TOKEN: lambda: self.keys.token, ENCRYPT: lambda: self.keys.encryption}.get(method, lambda: None)()
        protection = Protection(method, column.type, key and key.id, key and key.check)
        return structs.replace(column, type="text", protection=protection)

    def marks(self, columns: Sequence[Column]) -> Marks:
        """Marks for the protected ones of the columns, as landed() gives them."""
        return Marks({column.name: method_of(column.protection, self.keys) for column in columns if column.protection})

    def refuse_key(self, table: str, key: Sequence[str]) -> None:
        """Raise SettingError if a column of the key would lose what makes it one."""
        for name in key:
            if (method := self.methods.get(name)) in (MASK, DROP):
                raise SettingError(f"protect: {table}.{name} has the method {method} and is part of the key, which "
                                   "would no longer tell rows apart. Use token or encrypt. Nothing was extracted. "
                                   "Correct `protect` in meltano.yml, and run again.")
