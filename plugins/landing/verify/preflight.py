"""What an extract and a load would make of each table and column of a source, before there is any.

    lossless    lands and loads with its exact type; a domain with its base type
    as text     kept as PostgreSQL's own text of it
    refused     the extract, or the load, would stop here
    other moment    of a table: it reads foreign tables, whose rows are not of the snapshot

Nothing is known here of types and names: it is the tap's and the warehouse's own code that is asked, on their own
servers, with transactions that read nothing and are undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import psycopg2

from landing.core.dates import now, today
from landing.core.errors import LandingError, RefusedError, SourceError, describe
from landing.extract.postgres import snapshot
from landing.extract.postgres.catalog import SourceTable, describe_tables
from landing.extract.postgres.relations import reads
from landing.load.planning import refuse_shared_names
from landing.load.staging import Load
from landing.load.warehouse import Warehouse
from landing.model.naming import new_run_id
from landing.model.schema import Column, Table

LOSSLESS, AS_TEXT, REFUSED, OTHER_MOMENT = "lossless", "as text", "refused", "other moment"


@dataclass(frozen=True)
class Verdict:
    """Of a column, or (`column` None) of a table: refused, or of another moment.

    `loads_as`: the type in the warehouse.
    """

    schema: str
    table: str
    column: str | None
    verdict: str
    type: str | None = None
    loads_as: str | None = None
    reason: str | None = None


def describe_source(connection: Any, schemas: Sequence[str], patterns: Sequence[str]) -> list[SourceTable]:
    """Tables of `schemas` (none: all) whose `schema.table` is like one of the patterns (none: all)."""
    tables = [table for (schema, name), table in describe_tables(connection, schemas).items()
              if not patterns or any(fnmatchcase(f"{schema}.{name}", pattern) for pattern in patterns)]
    if not tables:
        where = f"schemas {', '.join(schemas)}" if schemas else "any schema"
        like = f" like {', '.join(patterns)}" if patterns else ""
        raise SourceError(f"The source has no table{like} in {where} that this role can see. Look at filter_schemas of "
                          "tap-postgres in meltano.yml, and at SOURCE_POSTGRES_DB in .env.")
    return tables


class Preflight:
    """Asks the source and, where there is one, the warehouse."""

    def __init__(self, connection: Any, name: str, warehouse: Warehouse | None) -> None:
        """`name`: of the source, as the ledger knows it."""
        self.connection, self.name, self.warehouse = connection, name, warehouse

    def verdicts(self, tables: Sequence[SourceTable]) -> Iterator[Verdict]:
        """Of each column of each table, in order."""
        loads = {table.stream: self._load(table) for table in tables}
        if self.warehouse is None:
            yield from self._verdicts(tables, loads, lambda load: load, {})
            return
        plan = self.warehouse.planner([*loads.values()])
        with self.warehouse.dry_run() as create:

            def planned(load: Load) -> Load:
                load = plan(load)
                create(load)
                return load

            yield from self._verdicts(tables, loads, planned, plan.supported)

    def _load(self, table: SourceTable) -> Load:
        """As the extract of today would hand it to the load."""
        landed = Table(stream=table.stream, name=table.name, schema=table.schema, columns=table.columns,
                       primary_key=table.primary_key)
        return Load(self.name, today(), new_run_id(), now(), landed)

    def _verdicts(
        self, tables: Sequence[SourceTable], loads: dict[str, Load], planned: Callable[[Load], Load],
        known: dict[str, bool],
    ) -> Iterator[Verdict]:
        first: dict[str, Load] = {}
        with self.connection.cursor() as cursor:
            found = reads(cursor, [(table.schema, table.name) for table in tables])
        for table in tables:
            load = loads[table.stream]
            try:
                snapshot.dry_run(self.connection, table)
                refuse_shared_names([first.setdefault(table.name, load), load])
                columns = planned(load).table.columns
            except RefusedError as error:
                yield Verdict(table.schema, table.name, None, REFUSED, reason=f"{error.what}. {error.then}")
            except LandingError as error:
                yield Verdict(table.schema, table.name, None, REFUSED, reason=str(error))
            except psycopg2.Error as error:
                yield Verdict(table.schema, table.name, None, REFUSED, reason=describe(error))
            else:
                if names := snapshot.foreign(found, (table.schema, table.name)):
                    yield Verdict(table.schema, table.name, None, OTHER_MOMENT, reason=(
                        f"it reads foreign tables, whose rows are not of the snapshot: {', '.join(names)}"))
                yield from (_verdict(table, *pair, known) for pair in zip(table.columns, columns, strict=True))


def _verdict(table: SourceTable, column: Column, loaded: Column, known: dict[str, bool]) -> Verdict:
    verdict, reason = LOSSLESS, None
    if column.name in table.as_text:
        verdict, reason = AS_TEXT, table.as_text[column.name]
    elif not known.get(column.type, True):
        verdict, reason = AS_TEXT, f"the warehouse's server cannot read {column.type}"
    elif loaded.type != column.type:
        verdict = AS_TEXT if loaded.type == "text" else LOSSLESS
        reason = f"with what older dates have, the warehouse's column is {loaded.type}, which holds it"
    elif column.source_type:
        reason = f"a domain, as its base type {column.type}"
    return Verdict(table.schema, table.name, column.name, verdict, column.source_type or column.type, loaded.type,
                   reason)
