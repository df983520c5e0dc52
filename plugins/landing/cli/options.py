"""What the commands share: their options, their servers, how they print."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import click
import psycopg2

from landing.core.errors import (
    LandingError,
    WarehouseError,
    describe,
)
from landing.load.load_history import LoadHistory
from landing.load.warehouse import Warehouse
from landing.postgres.configured import connect

PATIENCE = 10.0  # seconds that gc waits for a load to end


logger = logging.getLogger("landing")


as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


with_schema = click.option("--schema", default=lambda: os.environ.get("SCHEMA", "public"), metavar="NAME",
                           help="The warehouse's schema; unset: SCHEMA, else public.")


def say(as_json: bool, value: Any, text: Callable[[], str]) -> None:
    click.echo(json.dumps(value, indent=1, default=str, ensure_ascii=False) if as_json else text())


def ask(question: Callable[[Any], Any], schema: str) -> Any:
    """What the ledger's schema answers; None, said on stderr, where the warehouse can't be asked."""
    try:
        with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
            return question(LoadHistory(cursor, f"{schema}_history"))
    except (LandingError, psycopg2.Error) as error:
        why = describe(error) if isinstance(error, psycopg2.Error) else error
        click.echo(f"The warehouse could not be asked what is loaded: {why}", err=True)
        return None


@contextlib.contextmanager
def open_warehouse(schema: str) -> Iterator[Warehouse | None]:
    """The warehouse, which keeps its warnings to itself; None, said on stderr, where it can't be reached."""
    try:
        connection = connect()
    except LandingError as error:
        click.echo(f"The warehouse could not be asked what it takes: {error}", err=True)
        yield None
        return
    with contextlib.closing(connection):
        yield Warehouse(connection, schema, logging.Logger("certify", logging.ERROR))


@contextlib.contextmanager
def hold_warehouse(schema: str) -> Iterator[Warehouse | None]:
    """The warehouse, held against loads; None if nothing was ever loaded."""
    with contextlib.closing(connect()) as connection:
        warehouse = Warehouse(connection, schema, logger)
        if not warehouse.load_history.exists():
            yield None
            return
        if not warehouse.lock.acquire(PATIENCE):
            raise WarehouseError(f"a load has been at work in schema {schema} for {PATIENCE:g} s and more "
                                 f"({warehouse.lock.holder()}). Run again "
                                 "when it has ended")
        yield warehouse
