"""PostgreSQL connections and COPY, hashed as it streams.

The session is pinned so that the same row gives the same bytes on every server, and gives them in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg2
from psycopg2.extensions import parse_dsn

from landing.core.errors import UnreachableError, describe
from landing.postgres.session import STALL_TIMEOUT, Session, open_session
from landing.postgres.tls import tls_failure
from landing.postgres.transaction import pin_session

# We see as soon that nobody answers, and not after the system's two hours. No tcp_user_timeout: Linux would end a
# connection whose server lives and is busy. What was sent and not acknowledged ends after a quarter of an hour.
KEEPALIVES = {"connect_timeout": 30, "keepalives_idle": 60, "keepalives_interval": 15, "keepalives_count": 4}

# What libpq says of a server that it does not trust, and what there is to do.
DISTRUST = {
    "certificate verify failed": "Its certificate has expired, or the authority that is named here did not issue it. "
    "Have it renewed there, or name the file of the right authority as …_POSTGRES_SSLROOTCERT in .env.",
    "does not match host name": "Write the host in .env as its certificate has it; if that is another server's, "
    "somebody stands between you and yours.",
    "server does not support SSL": "Have TLS switched on there. Only where nobody can listen on the way, write a "
    "…_POSTGRES_SSLMODE into .env that does without.",
    "root certificate file": "Name a file in PEM format as …_POSTGRES_SSLROOTCERT in .env.",
}
NO_REASON = "no SSL error reported"
CHECK = "Check SOURCE_POSTGRES_… and TARGET_POSTGRES_… in .env."


def connect(dsn: str | Mapping[str, Any], name: str, stall_timeout: float = STALL_TIMEOUT) -> Session:
    """An autocommit connection with the session pinned; `name` is what pg_stat_activity shows."""
    arguments = parse_dsn(dsn) if isinstance(dsn, str) else dsn
    try:
        connection = open_session({**KEEPALIVES, **arguments, "application_name": name}, stall_timeout)
    except psycopg2.OperationalError as error:
        said = describe(error)
        if NO_REASON in said:
            said = said.replace(NO_REASON, tls_failure(arguments) or NO_REASON)
        advice = next((one for words, one in DISTRUST.items() if words in said), CHECK)
        raise UnreachableError(f"{name}: {said}. {advice} Then run again.") from None
    pin_session(connection)
    return connection
