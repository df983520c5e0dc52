#!/bin/sh
# In place of pgAdmin: opens each registered server by its password file, as libpq does for pgAdmin, and answers a ping.
set -eu
python3 - <<'PROGRAM'
import json, os, subprocess

folder = "/var/lib/pgadmin/storage/" + os.environ["PGADMIN_DEFAULT_EMAIL"].replace("@", "_")
for server in json.load(open(os.environ["PGADMIN_SERVER_JSON_FILE"]))["Servers"].values():
    address = {"PGHOST": server["Host"], "PGPORT": str(server["Port"]), "PGDATABASE": server["MaintenanceDB"],
               "PGUSER": server["Username"], "PGSSLMODE": server["SSLMode"],
               "PGPASSFILE": folder + server["PassFile"]}
    subprocess.run(["psql", "-w", "-c", "SELECT 1"], env={**os.environ, **address}, check=True)
PROGRAM
mkdir -p /tmp/pings/misc && echo PING >/tmp/pings/misc/ping
cd /tmp/pings && exec python3 -m http.server 80
