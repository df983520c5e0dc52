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

MORE_CONNECTIONS = (
    "Raise the limit there. An extract needs three connections, or one with TAP_POSTGRES_CONNECTIONS=1 in .env; a load "
    "or a verification three, or two with TARGET_POSTGRES_CONNECTIONS=1."
)

# Advice by libpq's message.
ADVICE = {
    "certificate verify failed": "The server's certificate has expired, or was not issued by the configured authority. "
    "Renew it, or set …_POSTGRES_SSLROOTCERT in .env to the file of the right authority.",
    "does not match host name": "Use the host name of the certificate in .env. If it names another server, the "
    "connection may be intercepted.",
    "server does not support SSL": "Enable TLS on the server. Only on a trusted network, set …_POSTGRES_SSLMODE in "
    ".env to a mode without TLS.",
    "no password supplied": "The server asks for a password, and none is set: fill in …_POSTGRES_PASSWORD in .env.",
    "password authentication failed": "Correct …_POSTGRES_USER and …_POSTGRES_PASSWORD in .env. A password with # "
    "belongs into single quotes there; one with $ before a capital letter into ~/.pgpass, and none into .env.",
    "too many connections for": MORE_CONNECTIONS,
    "too many clients": MORE_CONNECTIONS,
    "remaining connection slots": MORE_CONNECTIONS,
    "does not exist": "Correct …_POSTGRES_DB or …_POSTGRES_USER in .env.",
    "could not translate host name": "Correct …_POSTGRES_HOST in .env.",
    "Connection refused": "No PostgreSQL listens there. Correct …_POSTGRES_HOST and …_POSTGRES_PORT in .env, or start "
    "the server.",
    "root certificate file": "Set …_POSTGRES_SSLROOTCERT in .env to a file in PEM format.",
}
NO_REASON = "no SSL error reported"
CHECK = "Check …_POSTGRES_HOST, …_PORT, …_DB, …_USER and …_PASSWORD in .env."
ROLES = {"tap-postgres": "SOURCE", "target-postgres": "TARGET"}


def connect(
    dsn: str | Mapping[str, Any], name: str, stall_timeout: float = STALL_TIMEOUT, role: str | None = None
) -> Session:
    """Open an autocommit session with pinned settings.

    Args:
        dsn: libpq's connection parameters.
        name: The application name, for pg_stat_activity and messages.
        stall_timeout: Seconds without a byte, from a backend that is not busy, until the session is ended.
        role: SOURCE or TARGET, as in the variables that configure the connection. Default: by the plugin's name.

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
        advice = next((one for words, one in ADVICE.items() if words in reason), CHECK)
        advice = advice.replace("…_POSTGRES", f"{role or ROLES.get(name, '…')}_POSTGRES")
        raise UnreachableError(f"{name}: {reason.rstrip('.?')}. {advice} Then run again.") from None
    pin_session(connection)
    return connection
