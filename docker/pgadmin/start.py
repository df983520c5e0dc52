"""Starts pgAdmin in its container with both servers registered: users, databases and passwords from the environment.

`servers.json` beside this file has the constant part. Passwords go to a passfile that only pgAdmin's account can read,
in the folder of its one user. The passfile is written at each start, since passwords may change.
"""

import json
import os
from pathlib import Path

DATA = Path("/var/lib/pgadmin")
ROLES = {"source": "SOURCE", "target": "TARGET"}  # by host name


def registered(servers: dict, environment: dict) -> dict:
    """The servers with user and database, in pgAdmin's format."""
    entries = {}
    for number, server in servers["Servers"].items():
        prefix = f"{ROLES[server['Host']]}_POSTGRES_"
        names = {"Username": environment[f"{prefix}USER"], "MaintenanceDB": environment[f"{prefix}DB"]}
        entries[number] = {**server, **names}
    return {"Servers": entries}


def passwords(servers: dict, environment: dict) -> str:
    """Lines of a libpq passfile: host:port:database:user:password."""
    lines = []
    for server in servers["Servers"].values():
        password = environment[f"{ROLES[server['Host']]}_POSTGRES_PASSWORD"]
        fields = (server["Host"], str(server["Port"]), server["Username"], password)
        host, port, user, password = (field.replace("\\", "\\\\").replace(":", "\\:") for field in fields)
        lines.append(f"{host}:{port}:*:{user}:{password}\n")
    return "".join(lines)


def main() -> None:
    servers = registered(json.loads(Path(__file__).with_name("servers.json").read_text()), dict(os.environ))
    Path(os.environ["PGADMIN_SERVER_JSON_FILE"]).write_text(json.dumps(servers))
    # pgAdmin looks for a PassFile in the user's folder, which has this name.
    folder = DATA / "storage" / os.environ["PGADMIN_DEFAULT_EMAIL"].replace("@", "_")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / ".pgpass"
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as passfile:
        passfile.write(passwords(servers, dict(os.environ)))
    os.execv("/entrypoint.sh", ["/entrypoint.sh"])  # noqa: S606 - the entry point of this image


if __name__ == "__main__":
    main()
