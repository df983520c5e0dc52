"""Connection settings, checked before libpq or the MeltanoLabs plugins see them, which end with a traceback."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landing.core.errors import SettingError

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
REQUIRED = {"host": "HOST", "port": "PORT", "database": "DB", "user": "USER"}  # settings and their variables
PASSWORDLESS = {"password": ""}  # libpq takes it from its password file then, or the server trusts the user
CONNECTION = {"host": "host", "port": "port", "database": "dbname", "user": "user", "password": "password"}


def checked(config: Mapping[str, Any], role: str, whose: str) -> dict[str, Any]:
    """Connection settings with the port as a number, and a password.

    Args:
        config: host, port, database, user, password, ssl_mode; or sqlalchemy_url, which is not checked.
        role: SOURCE or TARGET, as in the variables of .env.
        whose: The plugin or command that connects.

    Raises:
        SettingError: A setting is missing or cannot be valid.
    """
    if config.get("sqlalchemy_url"):
        return dict(config)
    problems = [f"{name} ({role}_POSTGRES_{variable}) is empty" for name, variable in REQUIRED.items()
                if config.get(name) in (None, "")]
    port, mode = config.get("port"), config.get("ssl_mode")
    if port not in (None, "") and not (str(port).isascii() and str(port).isdigit() and 0 < int(port) < 65536):
        problems.append(f"port ({role}_POSTGRES_PORT) is {str(port)!r}; expected a number, such as 5432")
    if config.get("ssl_enable") and mode is not None and mode not in SSL_MODES:
        problems.append(f"ssl_mode ({role}_POSTGRES_SSLMODE) is {mode!r}; expected one of {', '.join(SSL_MODES)}")
    if problems:
        raise SettingError(f"{whose}: {'; '.join(problems)}. Correct it in .env (see .env.example), or in meltano.yml, "
                           "and run again.")
    return {**PASSWORDLESS, **{name: value for name, value in config.items() if value is not None}, "port": int(port)}


def libpq_arguments(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """libpq's arguments of checked settings.

    None if they need what the MeltanoLabs plugins implement: a URL, an SSH tunnel, or certificates that are not files.
    """
    tunnel = config.get("ssh_tunnel") or {}
    if config.get("sqlalchemy_url") or tunnel.get("enable") or config.get("ssl_client_certificate_enable"):
        return None
    arguments = {libpq: config[setting] for setting, libpq in CONNECTION.items()}
    if config.get("ssl_enable"):
        arguments["sslmode"] = config.get("ssl_mode", "verify-full")
        if arguments["sslmode"].startswith("verify-"):
            arguments["sslrootcert"] = config["ssl_certificate_authority"]
            return arguments if Path(arguments["sslrootcert"]).is_file() else None
    return arguments
