"""Runs the checks of a date's tables before the swap. What does not hold blocks the whole date."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from landing.core.commands import extract_command, load_command
from landing.core.errors import CheckError
from landing.load import history
from landing.load.declared_checks import FOREIGN_KEYS, SETTING, DeclaredChecks, TableChecks, refuse
from landing.load.history import history_name
from landing.load.load_history import LoadHistory
from landing.load.refusals import Refusal
from landing.load.staging import Load
from landing.load.table_checks import SHOWN, Finding, TableChecker
from landing.model.schema import ForeignKey, Table
from landing.postgres.query import query
from landing.postgres.transaction import transaction
from landing.postgres.worker_pool import WorkerPool


@dataclass(frozen=True)
class CheckedTable:
    """A table of the date. `load`: staged, or loaded before, with its place. `landed`: as its manifest has it."""

    load: Load
    landed: Table
    relation: sql.Identifier
    is_new: bool
    checks: TableChecks | None

    @property
    def key(self) -> tuple[str, str | None, str]:
        """By which foreign keys refer to it."""
        return self.load.source, self.landed.schema, self.landed.name

    @property
    def name(self) -> str:
        """In its source."""
        return self.landed.name if self.landed.schema is None else f"{self.landed.schema}.{self.landed.name}"


class DateChecks:
    """The declared checks of one date."""

    def __init__(self, declared: DeclaredChecks, load_history: LoadHistory) -> None:
        self.declared, self.load_history = declared, load_history

    def tables(self, loads: Mapping[str, Load], landed: Mapping[str, Table],
               staged: Sequence[Load]) -> list[CheckedTable]:
        """All tables of the date.

        Args:
            loads: All loads, with their places, by stream.
            landed: As the manifests have them, by stream.
            staged: Those that are in staging tables now.
        """
        new = {(load.source, load.schema, load.table.name): load for load in staged}
        partitions = {schema: history.partitions(self.load_history.cursor, f"{schema}_history", next(
            iter(loads.values())).day) for schema in {load.schema for load in loads.values()}}
        found = []
        for stream, load in loads.items():
            one = new.get((load.source, load.schema, load.table.name))
            name = one.staging if one else partitions[load.schema].get(load.table.name)
            if name:
                found.append(CheckedTable(one or load, landed[stream], sql.Identifier(load.history, name),
                                          one is not None, self.declared.of(load)))
        return found

    def failed(self, tables: Sequence[CheckedTable], workers: WorkerPool) -> list[Refusal]:
        """The checks that do not hold: those of new tables, and foreign keys from and to them."""
        by_key = {table.key: table for table in tables}
        tasks = [(table, workers.submit(functools.partial(_findings, table, self._before(table))))
                 for table in tables if table.is_new and table.checks]
        for table in tables:
            if table.checks and table.checks.foreign_keys:
                if not table.landed.foreign_keys:
                    refuse(table.checks.where, f"{FOREIGN_KEYS}: the manifest has none of this table")
                tasks += [(table, workers.submit(functools.partial(_unmatched, table, other, key)))
                          for key in table.landed.foreign_keys
                          if (other := by_key.get((table.load.source, key.schema, key.table)))
                          and (table.is_new or other.is_new)]
        return [Refusal(table.load.source, table.load.day, table.load.run_id, table.name, one.check, one.expected,
                        one.found) for table, task in tasks for one in workers.result(task)]

    def _before(self, table: CheckedTable) -> tuple[object, int] | None:
        return self.load_history.before(table.load) if table.checks and table.checks.max_change is not None else None


def _findings(table: CheckedTable, before: tuple[object, int] | None, connection: Connection) -> list[Finding]:
    return TableChecker(table.load, table.landed, table.checks).findings(connection, table.relation, before)


def _unmatched(table: CheckedTable, other: CheckedTable, key: ForeignKey, connection: Connection) -> list[Finding]:
    """Rows whose foreign key no row of the other table has. A NULL in it refers to nothing."""
    own = [sql.Identifier("a", history_name(name)) for name in key.columns]
    theirs = [sql.Identifier("b", history_name(name)) for name in key.references]
    some = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(name) for name in own)
    same = sql.SQL(" AND ").join(sql.SQL("{} = {}").format(*pair) for pair in zip(own, theirs, strict=True))
    shown = sql.SQL(", ").join(sql.SQL("left({}::text, {})").format(name, sql.Literal(SHOWN)) for name in own)
    with transaction(connection) as cursor:
        (count, example), = query(cursor, sql.SQL(
            "SELECT count(*), min(concat_ws(', ', {})) FROM {} a WHERE {} AND NOT EXISTS (SELECT FROM {} b WHERE {})"
        ).format(shown, table.relation, some, other.relation, same))
    columns = ", ".join(key.columns)
    return [Finding(FOREIGN_KEYS, f"a row of {other.name} for each ({columns})",
                    f"{count:,} rows without one, such as {columns} {example}")] if count else []


def refused(failed: Sequence[Refusal], schema: str) -> CheckError:
    """The error of a date that checks block."""
    day = failed[0].day
    sources = dict.fromkeys(one.source for one in failed)
    again = " && ".join(f"REEXTRACT=true {extract_command(source, day)}" for source in sources)
    return CheckError(
        f"Checks of {day} do not hold, so the date is not loaded and the views are unchanged. "
        f"{'; '.join(map(str, failed))}. Correct the rows at the source and extract the date again: {again}. Or "
        f"correct `{SETTING}` of target-postgres in meltano.yml. Then run: {load_command(day, schema)}")
