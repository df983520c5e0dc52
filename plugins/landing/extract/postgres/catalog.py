"""The tables of a source database, with exact types and foreign keys, from its system catalogs."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import errors
from psycopg2.extensions import connection as Connection

from landing.core.errors import SourceError, describe
from landing.model.schema import Column, ForeignKey
from landing.singer.types import json_schema

# Types whose text refers to objects of their own database: tables, functions, roles.
LOCAL_TYPES = [
    "aclitem", "regclass", "regcollation", "regconfig", "regdatabase", "regdictionary", "regnamespace", "regoper",
    "regoperator", "regproc", "regprocedure", "regrole", "regtype",
]

# Types without an input function, which occur in views on system catalogs.
UNREADABLE_TYPES = [
    "gtsvector", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_dependencies", "pg_mcv_list",
    "pg_ndistinct", "pg_node_tree",
]

# Domains are resolved to their base type. Types that not every PostgreSQL has (enums, composites, extension types) are
# extracted as text. Partitions are part of their parent; tables of extensions are not user data.
QUERY = """
WITH RECURSIVE base AS (
    SELECT a.attrelid, a.attnum, a.atttypid AS type, a.atttypmod AS modifier
    FROM pg_attribute a
    WHERE a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
    SELECT b.attrelid, b.attnum, t.typbasetype, t.typtypmod
    FROM base b JOIN pg_type t ON t.oid = b.type
    WHERE t.typtype = 'd'
)
SELECT n.nspname, c.relname, c.relkind::text, obj_description(c.oid, 'pg_class'),
       ARRAY(SELECT k.attname::text
             FROM pg_index i
             CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS part(attnum, position)
             JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum = part.attnum
             WHERE i.indrelid = c.oid AND i.indisprimary AND part.position <= i.indnkeyatts
             ORDER BY part.position),
       a.attname, NOT a.attnotnull, col_description(c.oid, a.attnum),
       format_type(a.atttypid, a.atttypmod), format_type(base.type, base.modifier),
       CASE WHEN item.typnamespace <> 'pg_catalog'::regnamespace OR item.typtype = 'c' THEN coalesce(
                (SELECT 'a type of extension ' || e.extname
                 FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                 WHERE d.classid = 'pg_type'::regclass AND d.objid = item.oid AND d.deptype = 'e'),
                CASE item.typtype WHEN 'e' THEN 'an enum' WHEN 'c' THEN 'a composite type'
                                  WHEN 'd' THEN 'a domain in an array' WHEN 'b' THEN 'a base type of its own'
                                  ELSE 'a range type of its own' END)
            WHEN item.typname = ANY (%(local)s) THEN 'names something of its own database'
            WHEN item.typname = ANY (%(unreadable)s) THEN 'a type that PostgreSQL writes and never reads' END
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN base ON base.attrelid = c.oid AND base.attnum = a.attnum
JOIN pg_type t ON t.oid = base.type AND t.typtype <> 'd'
JOIN pg_type item ON item.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
  AND (%(schemas)s = '{}' OR n.nspname = ANY (%(schemas)s))
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname, c.relname, a.attnum
"""

# A foreign key to a partitioned table has an additional constraint for each partition.
FOREIGN_KEYS = """
SELECT n.nspname, c.relname,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS part(attnum, position)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = part.attnum ORDER BY part.position),
       other.nspname, r.relname,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS part(attnum, position)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = part.attnum ORDER BY part.position)
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid AND NOT c.relispartition
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class r ON r.oid = k.confrelid AND NOT r.relispartition
JOIN pg_namespace other ON other.oid = r.relnamespace
WHERE k.contype = 'f' AND (%(schemas)s = '{}' OR n.nspname = ANY (%(schemas)s))
ORDER BY n.nspname, c.relname, k.conname
"""

# Names and comments of tables and columns, as bytes.
NAMES = """
SELECT convert_to(n.nspname, 'SQL_ASCII'), convert_to(c.relname, 'SQL_ASCII'),
       convert_to(coalesce(obj_description(c.oid, 'pg_class'), ''), 'SQL_ASCII'),
       convert_to(coalesce((SELECT string_agg(concat(a.attname, ' ', col_description(c.oid, a.attnum)), ' ')
                            FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0), ''), 'SQL_ASCII')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
  AND (%s = '{}' OR n.nspname = ANY (%s))
"""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceTable:
    """A table or view of the source.

    Attributes:
        kind: pg_class.relkind.
        as_text: Columns that are extracted as text, with the kind of their own type.
        primary_key: Its own, or a declared one.
        own_key: The source's primary key.
    """

    schema: str
    name: str
    kind: str
    comment: str | None
    primary_key: list[str]
    columns: list[Column]
    foreign_keys: list[ForeignKey]
    as_text: dict[str, str]
    own_key: list[str]

    @property
    def lockable(self) -> bool:
        """Whether LOCK TABLE accepts it."""
        return self.kind in ("r", "p")

    @property
    def stream(self) -> str:
        """The stream's name, as in the MeltanoLabs tap."""
        return f"{self.schema}-{self.name}"

    def catalog_entry(self) -> dict[str, Any]:
        """The table's entry in Singer's catalog; selected by default."""
        properties = {column.name: json_schema(column) for column in self.columns}
        inclusion = {name: "automatic" if name in self.primary_key else "available" for name in properties}
        metadata = [{"breadcrumb": ["properties", name], "metadata": {"inclusion": inclusion[name]}}
                    for name in properties]
        metadata.append({"breadcrumb": [], "metadata": {
            "inclusion": "available", "selected-by-default": True, "table-key-properties": self.primary_key,
            "forced-replication-method": "FULL_TABLE", "schema-name": self.schema,
        }})
        return {
            "tap_stream_id": self.stream, "stream": self.stream, "table_name": self.name,
            "is_view": self.kind in ("v", "m"), "replication_method": "FULL_TABLE",
            "key_properties": self.primary_key, "schema": {"type": "object", "properties": properties},
            "metadata": metadata,
        }


def catalog(tables: Iterable[SourceTable]) -> dict[str, Any]:
    """The Singer catalog of tables and views."""
    return {"streams": [table.catalog_entry() for table in tables]}


def describe_tables(connection: Connection, schemas: Sequence[str]) -> dict[tuple[str, str], SourceTable]:
    """Describe tables and views.

    Args:
        connection: To the source.
        schemas: Their schemas; empty: all but PostgreSQL's own.

    Returns:
        The tables by (schema, name).

    Raises:
        SourceError: A schema does not exist, a name or comment is not UTF-8, or two tables have the same stream name.
    """
    try:
        rows, foreign_keys = _describe(connection, schemas)
    except errors.CharacterNotInRepertoire as error:
        raise SourceError(
            f"The database's encoding is SQL_ASCII, and a name or comment of {_not_utf8(connection, schemas)} is not "
            f"UTF-8 ({describe(error)}). Nothing was committed. Correct it there, or exclude its schema "
            "(filter_schemas); then run again."
        ) from error
    if schemas and (unknown := {*schemas} - (known := _schemas(connection))):
        raise SourceError(
            f"filter_schemas: database {connection.info.dbname} has no schema {', '.join(sorted(unknown))}. It has: "
            f"{', '.join(sorted(known))}. Nothing was committed. Correct filter_schemas of tap-postgres in "
            "meltano.yml, and run again."
        )
    tables = {}
    for head, group in itertools.groupby(rows, key=lambda row: row[:5]):
        schema, name, kind, comment, key = head
        fields = [row[5:] for row in group]
        tables[schema, name] = SourceTable(
            schema, name, kind, comment, key, [_column(*field) for field in fields],
            foreign_keys.get((schema, name), []), {column: why for column, *_, why in fields if why}, key,
        )
    _refuse_ambiguous(tables.values())
    return tables


def _describe(
    connection: Connection, schemas: Sequence[str]
) -> tuple[list[tuple], dict[tuple[str, str], list[ForeignKey]]]:
    with connection.cursor() as cursor:
        cursor.execute(QUERY, {"schemas": list(schemas), "local": LOCAL_TYPES, "unreadable": UNREADABLE_TYPES})
        rows = cursor.fetchall()
        cursor.execute(FOREIGN_KEYS, {"schemas": list(schemas)})
        foreign_keys: dict[tuple[str, str], list[ForeignKey]] = {}
        for owner_schema, owner, *key in cursor.fetchall():
            foreign_keys.setdefault((owner_schema, owner), []).append(ForeignKey(*key))
    return rows, foreign_keys


def _schemas(connection: Connection) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' "
                       "AND nspname <> 'information_schema'")
        return {name for name, in cursor.fetchall()}


def _not_utf8(connection: Connection, schemas: Sequence[str]) -> str:
    """The first table with a name or comment that is not UTF-8; its name with escapes such as \\xe9."""
    with connection.cursor() as cursor:
        cursor.execute("ROLLBACK")  # the failed transaction, if any
        cursor.execute(NAMES, (list(schemas), list(schemas)))
        for schema, name, *texts in cursor.fetchall():
            try:
                for text in (schema, name, *texts):
                    bytes(text).decode()
            except UnicodeDecodeError:
                return ".".join(bytes(part).decode(errors="backslashreplace") for part in (schema, name))
    return "a table"


def _column(
    name: str, nullable: bool, comment: str | None, source_type: str, base_type: str, why_text: str | None
) -> Column:
    type_ = "text" if why_text else base_type
    return Column(name, type_, nullable, source_type if source_type != type_ else None, comment)


def _refuse_ambiguous(tables: Sequence[SourceTable]) -> None:
    """Raise SourceError if two tables have the same stream name, as `a-b`.`c` and `a`.`b-c` do."""
    seen: dict[str, SourceTable] = {}
    for table in tables:
        other = seen.setdefault(table.stream, table)
        if other is not table:
            raise SourceError(
                f"Tables {other.schema}.{other.name} and {table.schema}.{table.name} have the same stream name "
                f"{table.stream}. Exclude one of their schemas (filter_schemas) or rename one table, and run again."
            )
