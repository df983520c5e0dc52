"""Keys that a person declares, for tables without a primary key. They are checked on the rows that are extracted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from psycopg2 import errors as pg_errors
from psycopg2 import sql

from landing.core.errors import SettingError, describe
from landing.extract.postgres.catalog import SourceTable
from landing.extract.postgres.relations import Key

# Whether a unique index over some of these columns proves the key. That of an inheritance parent ignores its children.
PROVEN = """
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND (c.relkind = 'p' OR NOT c.relhassubclass)
      AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
      AND NOT EXISTS (SELECT FROM pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attname = ANY (%(key)s) AND NOT a.attnotnull)
      AND NOT EXISTS (SELECT FROM pg_constraint n WHERE n.conrelid = c.oid AND n.contype = 'n' AND NOT n.convalidated)
      AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS part(attnum, position)
                      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = part.attnum
                      WHERE part.position <= i.indnkeyatts AND a.attname <> ALL (%(key)s)))
"""


def with_keys(tables: Mapping[Key, SourceTable], keys: Mapping[str, Any]) -> dict[Key, SourceTable]:
    """Tables with the keys of the setting `keys`.

    Args:
        tables: All tables of the configured schemas.
        keys: Columns by `schema.table`; Meltano makes that an object `schema` with a property `table`.

    Raises:
        SettingError: A table or column does not exist.
    """
    found = dict(tables)
    names = {".".join(key): key for key in tables}
    for name, columns in _flat(keys):
        if name not in names:
            raise SettingError(f"keys: the source has no table {name!r} in the schemas of filter_schemas. Correct "
                               "`keys` of tap-postgres in meltano.yml (schema.table: [columns]), and run again.")
        table = found[names[name]]
        has = [column.name for column in table.columns]
        if missing := [column for column in columns if column not in has] or (not columns and ["(none is given)"]):
            raise SettingError(f"keys: {name} has no column {', '.join(map(str, missing))}. It has: {', '.join(has)}. "
                               "Correct `keys` of tap-postgres in meltano.yml, and run again.")
        found[names[name]] = dataclasses.replace(table, primary_key=list(columns))
    return found


def _flat(keys: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    for name, value in keys.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", columns) for inner, columns in _flat(value))
        else:
            yield name, [value] if isinstance(value, str) else list(value or [])


def problem(cursor: Any, table: Key, query: sql.Composable, key: Sequence[str]) -> str | None:
    """Why a declared key does not hold on a query's rows; None if it does.

    Reads all rows, unless a unique index proves the key.
    """
    cursor.execute(PROVEN, {"schema": table[0], "table": table[1], "key": list(key)})
    if cursor.fetchone()[0]:
        return None
    columns = [sql.Identifier(name) for name in key]
    statement = sql.SQL(
        "WITH rows AS MATERIALIZED (SELECT {columns} FROM ({query}) source) SELECT {nulls}, "
        "(SELECT coalesce(sum(times - 1), 0)::bigint FROM "
        "(SELECT count(*) AS times FROM rows GROUP BY {columns}) same) FROM rows"
    ).format(query=query, columns=sql.SQL(", ").join(columns),
             nulls=sql.SQL(", ").join(sql.SQL("count(*) FILTER (WHERE {} IS NULL)").format(one) for one in columns))
    try:
        cursor.execute(statement)
    except (pg_errors.UndefinedFunction, pg_errors.FeatureNotSupported) as error:
        return describe(error)
    *nulls, repeated = cursor.fetchone()
    found = [f"{name} is NULL in {count:,} rows" for name, count in zip(key, nulls, strict=True) if count]
    found += [f"{repeated:,} rows repeat the key of another row"] if repeated else []
    return "; ".join(found) or None


def refusal(table: Key, key: Sequence[str], why: str) -> str:
    """What to say of a key that does not hold."""
    return (f"{'.'.join(table)}: the declared key ({', '.join(key)}) does not hold: {why}. Correct the rows at the "
            "source, or the key: `keys` of tap-postgres, or table-key-properties, in meltano.yml")


