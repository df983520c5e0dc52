"""Protected columns of tables and views: the setting `protect`, and the query that marks their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2
from psycopg2 import sql

from landing.core.errors import describe
from landing.extract.postgres.catalog import SourceTable
from landing.extract.postgres.relations import Key
from landing.model.schema import Column
from landing.postgres.copy import stored
from landing.protection import rules
from landing.protection.columns import TableProtection, table_protections
from landing.protection.marks import Marks

# concat() writes a value as COPY does, by its type's output function; a cast to text may differ.
MARKED = ("CASE WHEN num_nulls({column}) = 0 THEN {first} || {second} || "
          "encode(convert_to(concat({value}), 'UTF8'), 'hex') END AS {column}")


def protections(setting: Mapping[str, Any], tables: Mapping[Key, SourceTable]) -> dict[Key, TableProtection]:
    """The protection of each table that has some.

    Raises:
        SettingError: The setting matches nothing somewhere, or takes from a key what makes it one.
    """
    names = {".".join(key): key for key in tables}
    columns = {name: {one.name: [one.name] for one in tables[key].columns} for name, key in names.items()}
    found = table_protections(rules.rules(setting), columns,
                              {name: tables[key].primary_key for name, key in names.items()})
    return {names[name]: protection for name, protection in found.items()}


def safe_description(error: psycopg2.Error) -> str:
    """An error of a query that reads protected columns: a message about data, or a function's own, may quote them."""
    if isinstance(error, (psycopg2.OperationalError, psycopg2.ProgrammingError)):
        return describe(error)
    return (f"{type(error).__name__} ({error.pgcode}). PostgreSQL's message may quote a protected value, so it is not "
            "repeated; the source's own log has it")


def marked(columns: Sequence[Column], marks: Marks) -> sql.Composed:
    """The select list, with a mark in front of each protected value."""
    return sql.SQL(", ").join(_field(column, marks) for column in columns)


def _field(column: Column, marks: Marks) -> sql.Composed:
    name, value = sql.Identifier(column.name), stored(column.name, column.type)
    if column.name not in marks:
        return sql.SQL("{} AS {}").format(value, name)
    first, second = map(sql.Literal, marks.of(column.name))
    return sql.SQL(MARKED).format(column=name, value=value, first=first, second=second)
