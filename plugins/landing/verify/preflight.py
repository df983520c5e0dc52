"""Preflight check: what an extract and a load would do with each table and column of a source.

    lossless        lands and loads with its exact type; a domain with its base type
    as text         kept as PostgreSQL's text output
    refused         the extract or the load would stop here
    left out        a relation that holds no data by nature: a materialized view WITH NO DATA, or what reads one
    protected       lands as text by the setting `protect`, or not at all
    other moment    a table that reads foreign tables, whose rows are not part of the snapshot

This module has no rules about types and names: it runs the tap's and the warehouse's own code on both servers, in
transactions that read no rows and are rolled back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import psycopg2

from landing.core.dates import now, today
from landing.core.errors import LandingError, RefusedError, SourceError, describe
from landing.extract.postgres import snapshot
from landing.extract.postgres.catalog import SourceTable, describe_tables
from landing.extract.postgres.keys import problem, refusal, with_keys
from landing.extract.postgres.protected import protections
from landing.extract.postgres.relations import Key, reads
from landing.load.planning import refuse_shared_names
from landing.load.staging import Load
from landing.load.table_names import TableNames
from landing.load.warehouse import Warehouse
from landing.model.naming import new_run_id
from landing.model.schema import Column, Table
from landing.postgres.transaction import transaction
from landing.protection import references
from landing.protection.columns import NO_PROTECTION, TableProtection, require_columns
from landing.protection.methods import DROP

LOSSLESS, AS_TEXT, REFUSED, OTHER_MOMENT = "lossless", "as text", "refused", "other moment"
LEFT_OUT, PROTECTED = "left out", "protected"


@dataclass(frozen=True)
class Verdict:
    """The verdict on a column, or on a table (`column` is None). `loads_as`: the type in the warehouse."""

    schema: str
    table: str
    column: str | None
    verdict: str
    type: str | None = None
    loads_as: str | None = None
    reason: str | None = None


def describe_source(
    connection: Any, schemas: Sequence[str], patterns: Sequence[str], keys: Mapping[str, Any],
    protect: Mapping[str, Any],
) -> tuple[list[SourceTable], dict[Key, TableProtection]]:
    """Tables of `schemas` (empty: all) whose `schema.table` matches a pattern (empty: all), with declared `keys`.

    Returns:
        The tables, and how columns are protected by the setting `protect`.

    Raises:
        SourceError: No table matches.
        SettingError: A setting names what does not exist, or columns cannot be protected.
    """
    found = with_keys(describe_tables(connection, schemas), keys)
    protection = protections(protect, found)
    tables = [table for (schema, name), table in found.items()
              if not patterns or any(fnmatchcase(f"{schema}.{name}", pattern) for pattern in patterns)]
    if not tables:
        where = f"schemas {', '.join(schemas)}" if schemas else "any schema"
        like = f" matching {', '.join(patterns)}" if patterns else ""
        raise SourceError(f"The source has no table{like} in {where} that this role can see. Check "
                          "filter_schemas of tap-postgres in meltano.yml, and SOURCE_POSTGRES_DB in .env.")
    return tables, protection


class Preflight:
    """Checks a source and, if it can be reached, the warehouse."""

    def __init__(self, connection: Any, name: str, warehouse: Warehouse | None, names: TableNames,
                 protection: Mapping[Key, TableProtection]) -> None:
        """`name`: of the source. `names`: of its tables in the warehouse. `protection`: of their columns."""
        self.connection, self.name, self.warehouse, self.names = connection, name, warehouse, names
        self.protection = protection

    def broken_references(self, tables: Sequence[SourceTable]) -> Iterator[str]:
        """A sentence for each foreign key that no longer joins."""
        return references.broken(self._load(table).table for table in tables)

    def verdicts(self, tables: Sequence[SourceTable]) -> Iterator[Verdict]:
        """Verdicts on each column of each table, in order."""
        loads = {table.stream: self._load(table) for table in tables}
        if self.warehouse is None:
            yield from self._verdicts(tables, loads, lambda load: load, {})
            return
        placed = {}
        for stream, load in loads.items():
            with contextlib.suppress(RefusedError):  # again below, as the verdict on the table
                placed[stream] = self.names.placed(load)
        plan = self.warehouse.planner([*placed.values()])
        with self.warehouse.dry_run() as create:

            def planned(load: Load) -> Load:
                load = plan(load)
                create(load)
                return load

            yield from self._verdicts(tables, loads, planned, plan.supported)

    def _load(self, table: SourceTable) -> Load:
        """The load that today's extract would lead to."""
        protection = self.protection.get((table.schema, table.name), NO_PROTECTION)
        landed = Table(stream=table.stream, name=table.name, schema=table.schema,
                       columns=protection.landed(table.columns), primary_key=table.primary_key,
                       foreign_keys=table.foreign_keys, dropped=protection.dropped(table.columns))
        return Load(self.name, today(), new_run_id(), now(), landed)

    def _verdicts(
        self, tables: Sequence[SourceTable], loads: dict[str, Load], planned: Callable[[Load], Load],
        known: dict[str, bool],
    ) -> Iterator[Verdict]:
        first: dict[tuple[str, str], Load] = {}
        with self.connection.cursor() as cursor:
            found = reads(cursor, [(table.schema, table.name) for table in tables])
        for table in tables:
            key = table.schema, table.name
            if empty := [one.unreadable for one in found if one.root == key and one.unpopulated]:
                yield Verdict(*key, None, LEFT_OUT, reason=f"{empty[0]}, so there is nothing to read")
                continue
            try:
                snapshot.dry_run(self.connection, table)
                self._check_key(table)
                require_columns(".".join(key), loads[table.stream].table.columns)
                load = self.names.placed(loads[table.stream])
                refuse_shared_names([first.setdefault((load.schema, load.table.name), load), load])
                columns = planned(load).table.columns
            except RefusedError as error:
                yield Verdict(table.schema, table.name, None, REFUSED, reason=f"{error.what}. {error.then}")
            except LandingError as error:
                yield Verdict(table.schema, table.name, None, REFUSED, reason=str(error))
            except psycopg2.Error as error:
                yield Verdict(table.schema, table.name, None, REFUSED, reason=describe(error))
            else:
                if names := snapshot.foreign(found, key):
                    yield Verdict(table.schema, table.name, None, OTHER_MOMENT, reason=(
                        f"it reads foreign tables, whose rows are not part of the snapshot: {', '.join(names)}"))
                loaded = {column.name: column for column in columns}
                yield from (_verdict(table, column, loaded.get(column.name), known) for column in table.columns)

    def _check_key(self, table: SourceTable) -> None:
        """Raise SourceError if a declared key does not hold. Reads the table unless an index proves the key."""
        if table.primary_key and table.primary_key != table.own_key:
            key = table.schema, table.name
            with transaction(self.connection) as cursor:
                why = problem(cursor, key, snapshot.select(table.columns, key), table.primary_key)
            if why:
                raise SourceError(f"{refusal(key, table.primary_key, why)}.")


def _verdict(table: SourceTable, column: Column, loaded: Column | None, known: dict[str, bool]) -> Verdict:
    """`loaded`: None if the column is not landed."""
    verdict, reason = LOSSLESS, None
    if loaded is None or loaded.protection:
        return Verdict(table.schema, table.name, column.name, PROTECTED, column.source_type or column.type,
                       loaded and loaded.type, f"protect: {loaded.protection.method if loaded else DROP}")
    if column.name in table.as_text:
        verdict, reason = AS_TEXT, table.as_text[column.name]
    elif not known.get(column.type, True):
        verdict, reason = AS_TEXT, f"the warehouse server does not support {column.type}"
    elif loaded.type != column.type:
        verdict = AS_TEXT if loaded.type == "text" else LOSSLESS
        reason = f"the warehouse column is {loaded.type}, which holds it and older partitions"
    elif column.source_type:
        reason = f"domain; loads as its base type {column.type}"
    return Verdict(table.schema, table.name, column.name, verdict, column.source_type or column.type, loaded.type,
                   reason)
