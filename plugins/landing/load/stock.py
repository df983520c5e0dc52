"""The MeltanoLabs target, in one transaction, for streams that do not come from the landing zone.

It imports SQLAlchemy and psycopg 3, which take a third of a start. So only what needs it imports this module.

The private parts of its connector are used in this module only: `_engine`, `_cached_engine`, and the patched
`do_commit` and `do_rollback` of its dialect. tests/test_sdk.py checks them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy import Engine, StaticPool, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from target_postgres.connector import PostgresConnector
from target_postgres.sinks import PostgresSink
from target_postgres.target import TargetPostgres

from landing.core.commands import load_command
from landing.core.commit_point import CommitPoint
from landing.core.dates import run_date
from landing.core.errors import SettingError, describe
from landing.core.slips import environment
from landing.model.csv_dialect import json_text
from landing.singer.metadata import ENCODING
from landing.singer.sdk import BaseBatchFileEncoding
from landing.singer.sinks import StrictSink

ERRORS = (SQLAlchemyError, psycopg.Error)


def check(config: Mapping[str, Any]) -> None:
    """Have the MeltanoLabs target check its settings."""
    TargetPostgres(config=dict(config))


def reason(error: Exception) -> str:
    """PostgreSQL's own message of one of ERRORS: SQLAlchemy's messages contain statements and values."""
    cause = getattr(error, "orig", None) or error
    return describe(cause) if isinstance(cause, psycopg.Error) else f"{type(cause).__name__}: {cause}"[:500]


def not_landed() -> str:
    """What to say of a stream that one of our own taps sends as an extract."""
    return (f"target-postgres loads landed dates, and this tap sends an extract: {environment()}. Land it first "
            "(`meltano run <tap> target-csv`); to load what is landed, run: "
            f"{load_command(run_date('EXTRACTED_AT'), os.environ.get('SCHEMA', 'public'))}.")


class Connector(PostgresConnector):
    """The MeltanoLabs connector on one connection and in one transaction: a tap that dies changes nothing."""

    def create_engine(self) -> Engine:
        """An engine whose commits are deferred until commit(); without it everything is rolled back."""
        engine = create_engine(
            self.sqlalchemy_url, poolclass=StaticPool, pool_reset_on_return=None,
            json_serializer=json_text, json_deserializer=self.deserialize_json,
        )
        self._commit = engine.dialect.do_commit
        engine.dialect.do_commit = engine.dialect.do_rollback = lambda _: None
        return engine

    def commit(self, point: CommitPoint) -> None:
        """Commit the transaction."""
        with self._engine.connect() as connection:
            dbapi = connection.connection.dbapi_connection
            with point.passing(lost=lambda: bool(dbapi.closed)):
                self._commit(dbapi)

    def libpq_arguments(self) -> dict[str, Any]:
        """The connection settings, TLS and SSH tunnel included, for psycopg2."""
        url = make_url(self.sqlalchemy_url)
        return {**url.translate_connect_args(username="user", database="dbname"), **url.query}

    def close(self) -> None:
        """Close the connection and roll back what was not committed."""
        if self._cached_engine:
            self._cached_engine.dispose()

    def get_sqlalchemy_query(self, config: dict[str, Any]) -> dict[str, Any]:
        """libpq's TLS options. The base class requires a certificate authority even if nothing is verified."""
        mode = config["ssl_mode"]
        if not config["ssl_enable"] or mode.startswith("verify-"):
            return super().get_sqlalchemy_query(config)
        return {**super().get_sqlalchemy_query({**config, "ssl_enable": False}), "sslmode": mode}


class StockSink(StrictSink, PostgresSink):
    """Sink of streams that do not come from the landing zone."""

    connector_class = Connector

    def __init__(self, target: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(target, *args, **kwargs, connector=target.connector)

    def table_of(self, stream_name: str, schema: dict) -> str:
        return stream_name.split("-")[-1]

    def process_batch_files(self, encoding: BaseBatchFileEncoding, files: Sequence[str]) -> None:
        """Reject files of our own taps, which must go through the landing zone first."""
        if encoding.format == ENCODING:
            raise SettingError(
                f"Stream {self.stream_name} comes as files, but not from the landing zone. {not_landed()} To load an "
                "extract without landing it, set use_batch: false for the tap."
            )
        super().process_batch_files(encoding, files)
