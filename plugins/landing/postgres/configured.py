"""Connections to the servers in SOURCE_POSTGRES_… and TARGET_POSTGRES_…."""

from __future__ import annotations

from landing.core.errors import SettingError
from landing.core.settings import settings
from landing.postgres import connect as postgres
from landing.postgres.parameters import checked
from landing.postgres.session import Session
from landing.postgres.tls import certificate_authority

VARIABLES = {"host": "HOST", "port": "PORT", "dbname": "DB", "user": "USER", "password": "PASSWORD",
             "sslmode": "SSLMODE"}


def connect(role: str = "TARGET") -> Session:
    """Connect to the warehouse (or the SOURCE) that the environment or the project's .env configures.

    Raises:
        SettingError: A connection is only partly configured.
        UnreachableError: The server cannot be reached.
    """
    values = settings()
    variables = {key: f"{role}_POSTGRES_{name}" for key, name in VARIABLES.items()}
    if missing := [name for name in variables.values() if name not in values and not name.endswith("_PASSWORD")]:
        raise SettingError(f"{', '.join(missing)} not set. Set it in .env (see .env.example), or run make demo.")
    given = {key: values.get(name, "") for key, name in variables.items()}
    checked({**given, "database": given["dbname"], "ssl_mode": given["sslmode"], "ssl_enable": True}, role, "landing")
    arguments = {key: value for key, value in given.items() if value != ""}
    if given["sslmode"].startswith("verify-"):
        arguments["sslrootcert"] = certificate_authority(arguments["sslmode"], f"{role}_POSTGRES_SSLROOTCERT",
                                                                  values)
    return postgres.connect(arguments, "landing", role=role)
