"""Shared by the commands: options, connections to the warehouse, output."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import click
import psycopg2

from landing.core.commands import named
from landing.core.errors import LandingError, WarehouseError, describe
from landing.core.reporting import reported
from landing.core.sources import table_checks, table_names
from landing.load.load_history import LoadHistory
from landing.load.warehouse import Warehouse
from landing.postgres.configured import connect

PRINTED = "landing.printed"  # in click's context
LOAD_WAIT = 10.0  # seconds that `gc` and `drop` wait for a load

logger = logging.getLogger("landing")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

with_schema = click.option("--schema", default=lambda: os.environ.get("SCHEMA", "public"), metavar="NAME",
                           help="Schema of the warehouse. Default: SCHEMA, else public.")


@contextlib.contextmanager
def answered(as_json: bool) -> Iterator[None]:
    """Report errors and exit with 1. With --json stdout has one JSON document: the result, or else the error."""
    def print_error(error: Exception, message: str) -> None:
        if as_json and PRINTED not in click.get_current_context().meta:
            fields = {"class": type(error).__name__, "message": message, "run": named(message)}
            output(True, {"error": fields}, str)

    with reported(logger, print_error):
        yield


def output(as_json: bool, value: Any, text: Callable[[], str]) -> None:
    """Print a result as JSON or as text."""
    click.get_current_context().meta[PRINTED] = True
    shown = json.dumps(value, indent=1, default=str, ensure_ascii=False) if as_json else text()
    click.echo(shown.encode(errors="backslashreplace").decode())  # a folder's name need not be UTF-8


def read_load_history(read: Callable[[LoadHistory], Any], schema: str) -> Any:
    """Read from a schema's load history; None, with a message on stderr, if the warehouse cannot be reached."""
    try:
        with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
            return read(LoadHistory(cursor, f"{schema}_history"))
    except (LandingError, psycopg2.Error) as error:
        why = describe(error) if isinstance(error, psycopg2.Error) else error
        click.echo(f"Cannot read from the warehouse what is loaded: {why}", err=True)
        return None


@contextlib.contextmanager
def open_warehouse(schema: str) -> Iterator[Warehouse | None]:
    """The warehouse, without its warnings; None, with a message on stderr, if it cannot be reached."""
    try:
        connection = connect()
    except LandingError as error:
        click.echo(f"Checked without the warehouse: {error}", err=True)
        yield None
        return
    with contextlib.closing(connection):
        yield Warehouse(connection, schema, logging.Logger("certify", logging.ERROR), names=table_names(),
                        checks=table_checks())


@contextlib.contextmanager
def locked_warehouse(schema: str, before: Callable[[Warehouse], Any] = lambda _: None) -> Iterator[Warehouse | None]:
    """The warehouse, locked against loads; None if nothing was ever loaded. `before`: called before it is locked.

    Raises:
        WarehouseError: A load holds the lock.
    """
    with contextlib.closing(connect()) as connection:
        warehouse = Warehouse(connection, schema, logger, names=table_names())
        if not warehouse.load_history.exists():
            yield None
            return
        before(warehouse)
        if not warehouse.lock.acquire(LOAD_WAIT):
            raise WarehouseError(f"Timed out after {LOAD_WAIT:g} s waiting for a load of schema "
                                 f"{warehouse.lock.blocked}: {warehouse.lock.holder()}. Nothing was changed there. Run "
                                 "again when it has ended.")
        yield warehouse
