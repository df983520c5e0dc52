"""One load of a date: plan, COPY into staging tables, atomic swap."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg2

from landing.core.commands import load_command
from landing.core.commit_point import UNKNOWN, CommitPoint
from landing.core.dates import today
from landing.core.errors import LandingError, StalledError, UnreachableError, WarehouseError, describe
from landing.load import declared_checks
from landing.load.load_history import NONE, Streams
from landing.load.migrations import Migration, Migrations
from landing.load.planning import refuse_shared_names
from landing.load.staging import Files, Load
from landing.load.table_names import SETTING, TableNames
from landing.load.warehouse import Warehouse
from landing.postgres.worker_pool import WorkerPool

KEY_MEMORY = 256 << 10  # kB of the warehouse server's memory for each key build
# Raises settings of a key build, unless the server has more.
AT_LEAST = """
SELECT set_config(name, greatest(setting::integer, (%(wanted)s::jsonb ->> name)::integer)::text, false)
FROM pg_settings WHERE %(wanted)s::jsonb ? name
"""


@dataclass(frozen=True)
class LoadJob:
    """Loads one date into one schema. `config`: the settings of target-postgres. `migrations`: to run before."""

    connect: Callable[[], Any]
    schema: str
    day: date
    config: Mapping[str, Any]
    point: CommitPoint
    logger: logging.Logger
    migrations: Sequence[Migration] = ()

    def run(self, sources: Sequence[str], loads: Mapping[str, tuple[Load, Files]], *, reload: bool,
            left_out: Sequence[str] = (), without_data: Streams = NONE) -> None:
        """Load what is not loaded yet.

        Args:
            sources: The landed sources.
            loads: All landed tables of these sources with their files, by stream.
            reload: Load tables whose run is already loaded, too.
            left_out: Sources of the date that this load leaves out on purpose.
            without_data: Streams of the date that hold no data at their source, by source.

        Raises:
            WarehouseError: The warehouse refused the load, or the connection failed.
        """
        names = TableNames(self.config.get(SETTING), self.schema)
        tables = {stream: names.placed(load) for stream, (load, _) in loads.items()}
        refuse_shared_names(sorted(tables.values(), key=lambda load: [*sources, load.source].index(load.source)))
        with self._locked(tables.values()) as warehouse:
            warehouse.refuse_unknown_checks(tables.values())
            missing = tables if reload else warehouse.missing(self.day, tables)
            new = warehouse.planned(missing, [load for stream, load in tables.items() if stream not in missing])
            if not reload:
                new = {stream: warehouse.on_base(load) for stream, load in new.items()}
            warehouse.refuse_removal(self.day, warehouse.vanished(self.day, sources, tables.values()))
            with WorkerPool(count := self.config["connections"], self._worker) as workers:
                staged = warehouse.stage(workers, [(load, loads[stream][1]) for stream, load in new.items()],
                                         alone=count == 1)
                warehouse.check(workers, tables, {stream: load.table for stream, (load, _) in loads.items()}, staged)
            warehouse.swap(self.day, sources, staged, tables.values(), left_out, without_data)
            ahead = warehouse.ahead(self.day, sources)
        self._log(sources, staged, len(loads), ahead)
        for source, streams in without_data.items():
            self.logger.warning("%s of %s has no data for %s, so nothing is loaded for them. Their views keep the "
                                "last date that has them. To have newer data: REFRESH MATERIALIZED VIEW at the "
                                "source.", source, self.day, ", ".join(streams))
        if left_out:
            self.logger.warning("%s is loaded without %s (WITHOUT_SOURCES). The load history records that.", self.day,
                                ", ".join(left_out))

    def _worker(self) -> Any:
        """A connection that fills staging tables.

        Its commits need no fsync: the later COMMIT of the swap syncs them as well.
        """
        connection = self.connect()
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
            wanted = {"maintenance_work_mem": KEY_MEMORY,
                      "max_parallel_maintenance_workers": self.config["connections"]}
            cursor.execute(AT_LEAST, {"wanted": json.dumps(wanted)})
        return connection

    @contextlib.contextmanager
    def _locked(self, loads: Collection[Load]) -> Iterator[Warehouse]:
        """The warehouse, locked against other loads; staging tables are dropped at the end."""
        self.point.done = f"{self.day} is loaded into {self.schema}."
        self.point.unknown = (
            f"The server did not confirm the COMMIT of {self.day} into {self.schema}. Check with `landing verify "
            f"{self.day}`, or load again, which changes nothing that is loaded: {self._command}")
        with self._explained(), contextlib.closing(self.connect()) as connection:
            warehouse = Warehouse(connection, self.schema, self.logger, self.config["lock_timeout"], self.point,
                                  self.config.get(SETTING), self.config.get(declared_checks.SETTING))
            warehouse.acquire(self.config["load_lock_timeout"], loads)
            Migrations(connection, self.schema, self.migrations).apply(self.config["lock_timeout"])
            try:
                yield warehouse
            finally:
                with contextlib.suppress(psycopg2.Error, LandingError):  # the next load drops what is left
                    warehouse.drop_staging()
                    warehouse.lock.release()

    @property
    def _command(self) -> str:
        return load_command(self.day, self.schema)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Add the outcome and the retry command to connection and server errors."""
        unknown = self.point.unknown
        try:
            yield
        except UnreachableError as error:
            raise UnreachableError(f"{error} Nothing was loaded. Run again: {self._command}") from error
        except StalledError as error:
            outcome = unknown if self.point.state == UNKNOWN else f"Nothing was loaded. Run again: {self._command}"
            raise StalledError(f"{error} {outcome}") from error
        except psycopg2.Error as error:
            if self.point.state == UNKNOWN:
                raise WarehouseError(f"The connection was lost ({describe(error)}). {unknown}") from error
            rights = "load/roles/warehouse_loader.sql grants the rights that a load needs in each SCHEMA listed there. "
            raise WarehouseError(
                f"PostgreSQL aborted the load of {self.day} into {self.schema}: {describe(error)}. Loads are atomic: "
                "readers see either all of the new partition or what they saw before. "
                f"{rights if isinstance(error, psycopg2.errors.InsufficientPrivilege) else ''}"
                f"Fix the cause, then run: {self._command}"
            ) from error

    def _log(self, sources: Sequence[str], new: Collection[Load], tables: int, ahead: Mapping[str, date]) -> None:
        names = ", ".join(sources)
        if new:
            self.logger.info("Loaded %s of %s into %s: %d tables, %s rows%s.", names, self.day, self.schema, len(new),
                             f"{sum(load.rows for load in new):,}",
                             f"; {tables - len(new)} were already loaded" if tables > len(new) else "")
        else:
            self.logger.info("%s of %s (%d tables) is already loaded: nothing changed.", names, self.day, tables)
        for source, newest in ahead.items():
            self.logger.info("The views of %s still show %s, which is newer.%s", source, newest,
                             f" That date is in the future. To remove it: landing drop {newest}"
                             if newest > today() else "")
