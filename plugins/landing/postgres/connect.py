"""Opens pinned PostgreSQL sessions, with advice for errors that libpq reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg2
from psycopg2.extensions import parse_dsn

from landing.core.errors import UnreachableError, describe
from landing.postgres.session import STALL_TIMEOUT, Session, open_session
from landing.postgres.tls import tls_failure
from landing.postgres.transaction import pin_session

# Detect a dead peer in two minutes instead of the default of two hours. No tcp_user_timeout: Linux would also close
# connections to a busy server. Unacknowledged data times out after a quarter of an hour.
KEEPALIVES = {"connect_timeout": 30, "keepalives_idle": 60, "keepalives_interval": 15, "keepalives_count": 4}

# Advice by libpq's message.
DISTRUST = {
    "certificate verify failed": "The server's certificate has expired, or was not issued by the configured authority. "
    "Renew it, or set …_POSTGRES_SSLROOTCERT in .env to the file of the right authority.",
    "does not match host name": "Use the host name of the certificate in .env. If it names another server, the "
    "connection may be intercepted.",
    "server does not support SSL": "Enable TLS on the server. Only on a trusted network, set …_POSTGRES_SSLMODE in "
    ".env to a mode without TLS.",
    "root certificate file": "Set …_POSTGRES_SSLROOTCERT in .env to a file in PEM format.",
}
NO_REASON = "no SSL error reported"
CHECK = "Check SOURCE_POSTGRES_… and TARGET_POSTGRES_… in .env."


def connect(dsn: str | Mapping[str, Any], name: str, stall_timeout: float = STALL_TIMEOUT) -> Session:
    """Open an autocommit session with pinned settings.

    Args:
        dsn: libpq's connection parameters.
        name: The application name, for pg_stat_activity and messages.
        stall_timeout: Seconds without a byte, from a backend that is not busy, until the session is ended.

    Raises:
        UnreachableError: The server cannot be reached, or rejects the login.
        PoolerError: A transaction pooler answers.
    """
    arguments = parse_dsn(dsn) if isinstance(dsn, str) else dsn
    try:
        connection = open_session({**KEEPALIVES, **arguments, "application_name": name}, stall_timeout)
    except psycopg2.OperationalError as error:
        reason = describe(error)
        if NO_REASON in reason:
            reason = reason.replace(NO_REASON, tls_failure(arguments) or NO_REASON)
        advice = next((one for words, one in DISTRUST.items() if words in reason), CHECK)
        raise UnreachableError(f"{name}: {reason}. {advice} Then run again.") from None
    pin_session(connection)
    return connection
