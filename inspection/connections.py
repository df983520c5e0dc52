"""Writes connections to source and warehouse for DBeaver and pgAdmin, from .env. Passwords go to the passfile only.

    .dbeaver/data-sources.json      connections of the DBeaver project in this folder
    .project                        makes this folder a DBeaver project
    .pgadmin/servers.json           for `pgadmin4-cli load-servers`
    .pgadmin/pgpass                 the passwords, in libpq's format, readable by the owner only (0600)

DBeaver asks for each password once; pgAdmin reads the passfile.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from landing.api import SettingError, certificate_authority, project_root, reported, settings

ROLES = {"source": "SOURCE_POSTGRES_", "warehouse": "TARGET_POSTGRES_"}
PROJECT_FILE = """<?xml version="1.0" encoding="UTF-8"?>
<projectDescription>
  <name>landing-zone</name>
  <natures>
    <nature>org.jkiss.dbeaver.DBeaverNature</nature>
  </natures>
</projectDescription>
"""


@dataclass(frozen=True)
class Server:
    """A connection, without its password."""

    name: str
    host: str
    port: int
    database: str
    user: str
    tls: dict[str, str]  # sslmode and, if the server is verified, sslrootcert


def servers(values: Mapping[str, str]) -> list[Server]:
    """Source and warehouse, as far as they are configured.

    Raises:
        SettingError: A connection is only partly configured, or none is.
    """
    found = []
    for name, prefix in ROLES.items():
        if not values.get(f"{prefix}HOST"):
            continue
        missing = [prefix + key for key in ("PORT", "DB", "USER") if not values.get(prefix + key)]
        if missing:
            raise SettingError(f"{prefix}HOST is set, but not {', '.join(missing)}. Set them in .env.")
        if not re.fullmatch("[0-9]{1,5}", port := values[f"{prefix}PORT"]):
            raise SettingError(f"{prefix}PORT={port!r} is not a port number. Expected one such as 5432. Correct .env.")
        found.append(Server(name, values[f"{prefix}HOST"], int(port), values[f"{prefix}DB"], values[f"{prefix}USER"],
                            _tls(prefix, values)))
    if not found:
        raise SettingError("Neither SOURCE_POSTGRES_HOST nor TARGET_POSTGRES_HOST is set. Set them in .env (see "
                           ".env.example), or run make demo.")
    return found


def _tls(prefix: str, values: Mapping[str, str]) -> dict[str, str]:
    mode = values.get(f"{prefix}SSLMODE") or "prefer"
    if not mode.startswith("verify-"):
        return {"sslmode": mode}
    return {"sslmode": mode, "sslrootcert": certificate_authority(mode, f"{prefix}SSLROOTCERT", values)}


def dbeaver(found: Sequence[Server]) -> dict[str, Any]:
    """Connections in the format of DBeaver's data-sources.json, by id. The source is read-only."""
    return {f"postgres-jdbc-landing-{server.name}": {
        "provider": "postgresql",
        "driver": "postgres-jdbc",
        "name": server.name,
        "save-password": False,
        "read-only": server.name == "source",
        "configuration": {
            "host": (host := _jdbc_host(server.host)),
            "port": str(server.port),
            "database": server.database,
            "url": f"jdbc:postgresql://{host}:{server.port}/{quote(server.database, safe='')}",
            "user": server.user,
            "configurationType": "MANUAL",
            "type": "dev",
            "auth-model": "native",
            "properties": server.tls,
        },
    } for server in found}


def _jdbc_host(host: str) -> str:
    """JDBC does not support Unix sockets, and needs brackets around an IPv6 address."""
    return "localhost" if host.startswith("/") else f"[{host}]" if ":" in host and host[0] != "[" else host


def pgadmin(found: Sequence[Server], passfile: Path) -> dict[str, Any]:
    """Servers in the format of `pgadmin4-cli load-servers`."""
    return {"Servers": {str(number): {
        "Name": server.name,
        "Group": "Landing zone",
        "Host": server.host,
        "Port": server.port,
        "MaintenanceDB": server.database,
        "Username": server.user,
        "ConnectionParameters": {**server.tls, "passfile": str(passfile), "connect_timeout": 10},
    } for number, server in enumerate(found, 1)}}


def pgpass(found: Sequence[Server], values: Mapping[str, str]) -> str:
    """Lines of a passfile; a password applies to all databases of a server."""
    lines = []
    for server in found:
        if password := values.get(f"{ROLES[server.name]}PASSWORD"):
            if "\n" in password:
                raise SettingError(f"{ROLES[server.name]}PASSWORD contains a line break, which a passfile cannot hold.")
            fields = [server.host, str(server.port), "*", server.user, password]
            lines.append(":".join(re.sub(r"([\\:])", r"\\\1", field) for field in fields) + "\n")
    return "".join(dict.fromkeys(lines))


def write(root: Path, values: Mapping[str, str]) -> list[Path]:
    """Write the files below `root` and keep connections that people added in DBeaver."""
    found = servers(values)
    sources, described = root / ".dbeaver" / "data-sources.json", root / ".project"
    listed, passfile = root / ".pgadmin" / "servers.json", root / ".pgadmin" / "pgpass"
    passwords = pgpass(found, values)
    _put(sources, _text(_merged(sources, dbeaver(found))))
    if not described.exists():
        _put(described, PROJECT_FILE)
    _put(listed, _text(pgadmin(found, passfile)))
    _put(passfile, passwords)
    return [sources, described, listed, passfile]


def _merged(path: Path, ours: Mapping[str, Any]) -> dict[str, Any]:
    """DBeaver's file with our connections replaced."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        others = {key: value for key, value in kept.get("connections", {}).items() if "-landing-" not in key}
        return {"folders": {}, **kept, "connections": {**others, **ours}}
    except FileNotFoundError:
        return {"folders": {}, "connections": {**ours}}
    except (ValueError, AttributeError) as error:
        raise SettingError(f"{path} is not a file of DBeaver's ({error}). Move it away, then run again.") from None


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _put(path: Path, text: str) -> None:
    """Replace a file atomically by one that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def main() -> None:
    """Write the files and print where they are."""
    with reported(logging.getLogger("connections")):
        root = project_root()
        written = write(root, settings())
        print(f"Written: {', '.join(str(path.relative_to(root)) for path in written)}")
        print(f"DBeaver: create a project whose location is {root}; it asks for each password once.\n"
              f"pgAdmin: run make pgadmin, or in your own pgAdmin: pgadmin4-cli load-servers {written[2]}")


if __name__ == "__main__":
    main()
