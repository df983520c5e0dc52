"""Where the tables of each source go in the warehouse: the setting `table_names` of target-postgres.

    table_names: {crm: "crm.{table}", erp: "erp_{table}", postgres: "{schema}_{table}"}

A template without a dot names a table in the default schema (SCHEMA); before a dot it names a schema of its own, with a
history of its own. Sources without a template keep their tables' names. All tables that a load replaces belong to one
load history, that of the default schema, which records where each table of each date is.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from landing.core.errors import RefusedError, SettingError
from landing.load.staging import Load
from landing.model.schema import NAME_BYTES, ForeignKey, Table

SETTING = "table_names"
PLACEHOLDERS = ("table", "schema", "source", "target_schema")
HISTORY = "_history"
EXAMPLE = '"crm.{table}", "crm_{table}" or "{schema}.{table}"'


@dataclass(frozen=True)
class Template:
    """One source's template: for a schema (None: the default) and for a table."""

    source: str
    text: str
    schema: str | None
    table: str

    @classmethod
    def parsed(cls, source: str, text: Any) -> Template:
        """Raises SettingError if the text is not a template."""
        if not isinstance(text, str):
            raise _invalid(source, text, "a template is a text")
        try:
            parts = list(string.Formatter().parse(text))
        except ValueError as error:
            raise _invalid(source, text, str(error)) from None
        for _, name, form, conversion in parts:
            if name is not None and (name not in PLACEHOLDERS or form or conversion):
                raise _invalid(source, text, f"{{{name}}} is not a placeholder")
        literals = "".join(literal for literal, *_ in parts)
        if literals.count(".") > 1:
            raise _invalid(source, text, "it has more than one dot")
        schema, dot, table = text.rpartition(".")
        if "{table}" not in table:
            raise _invalid(source, text, "the table's name lacks {table}, so all tables would get one name")
        if (dot and not schema) or "{table}" in schema:
            raise _invalid(source, text, "the schema is empty or depends on the table")
        return cls(source, text, schema if dot else None, table)


def _invalid(source: str, text: Any, why: str) -> SettingError:
    return SettingError(f"{SETTING} of target-postgres, source {source}: {text!r} is not a template: {why}. Expected, "
                        f"for example, {EXAMPLE}, of the placeholders "
                        f"{', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}. Correct it, and run again.")


class TableNames:
    """The setting, for loads into one default schema."""

    def __init__(self, templates: Mapping[str, Any] | None, default: str) -> None:
        """Raises SettingError if a template is invalid."""
        self.default = default
        self._templates = {source: Template.parsed(source, text) for source, text in _flat(templates or {})}

    @property
    def sources(self) -> list[str]:
        """Sources that have a template."""
        return list(self._templates)

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raise SettingError if a template is for a source that nobody knows, such as a misspelt one."""
        if unknown := sorted({*self._templates} - {*known}):
            raise SettingError(f"{SETTING} of target-postgres names the source {', '.join(unknown)}, which is neither "
                               f"declared nor loaded. Known sources: {', '.join(sorted(known))}. Correct it, and run "
                               "again.")

    def needs_schema(self, source: str) -> bool:
        """Whether the names of a source's tables depend on their schema in the source."""
        return source in self._templates and "{schema}" in self._templates[source].text

    def place(self, source: str, source_schema: str | None, name: str) -> tuple[str, str]:
        """Schema and name in the warehouse of a source's table.

        Raises:
            RefusedError: There is no such place.
        """
        template = self._templates.get(source)
        if template is None:
            return self.default, name
        where = f"{source}, table {name}"
        if source_schema is None and self.needs_schema(source):
            raise RefusedError(where, f"{SETTING} gives it the name {template.text!r}, and it has no schema in its "
                               "source", f"Leave {{schema}} out of {SETTING} for {source}")
        values = {"table": name, "schema": source_schema, "source": source, "target_schema": self.default}
        schema = self.default if template.schema is None else template.schema.format(**values)
        table = template.table.format(**values)
        if schema != self.default:
            self._check_schema(where, template, schema)
        if len(table.encode()) > NAME_BYTES:
            raise RefusedError(where, f"{SETTING} gives it the name {table!r}, which has {len(table.encode())} bytes; "
                               f"PostgreSQL's limit is {NAME_BYTES}", f"Shorten the template {template.text!r}")
        return schema, table

    def _check_schema(self, where: str, template: Template, schema: str) -> None:
        limit = NAME_BYTES - len(HISTORY)
        why = (f"names of {limit} bytes at most are possible" if len(schema.encode()) > limit else
               "it is empty" if not schema else
               "schemas that end in _history hold the history of others" if schema.endswith(HISTORY) else
               f"its history would be in {self.default}, which is SCHEMA" if schema + HISTORY == self.default else
               "PostgreSQL reserves it" if schema.startswith("pg_") or schema == "information_schema" else None)
        if why:
            raise RefusedError(where, f"{SETTING} puts it into schema {schema!r}: {why}",
                               f"Change the template {template.text!r}")

    def placed(self, load: Load) -> Load:
        """The load with its table's name and schema in the warehouse."""
        return self.at(load, *self.place(load.source, load.table.schema, load.table.name))

    def at(self, load: Load, schema: str, name: str) -> Load:
        """The load of a table in this place."""
        if (schema, name) == (self.default, load.table.name):
            return replace(load, schema=schema, table=self._referring(load, load.table, schema))
        table = structs.replace(load.table, name=name)
        return replace(load, schema=schema, source_table=load.table.name, table=self._referring(load, table, schema))

    def _referring(self, load: Load, table: Table, schema: str) -> Table:
        """The table whose foreign keys name the tables in the warehouse, with their schema if it is another."""
        if not table.foreign_keys:
            return table
        keys = []
        for key in table.foreign_keys:
            where, name = self._reference(load.source, key)
            keys.append(structs.replace(key, schema=table.schema, table=name if where == schema else f"{where}.{name}"))
        return structs.replace(table, foreign_keys=keys)

    def _reference(self, source: str, key: ForeignKey) -> tuple[str, str]:
        try:
            return self.place(source, key.schema, key.table)
        except RefusedError:
            return self.default, key.table


def _flat(templates: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Templates by source. Meltano nests a name with dots."""
    if not isinstance(templates, Mapping):
        raise SettingError(f"{SETTING} of target-postgres is {templates!r}. Expected a template for each source, such "
                           'as {"crm": "crm.{table}"}. Correct it, and run again.')
    for name, value in templates.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
