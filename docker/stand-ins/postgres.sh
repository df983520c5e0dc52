#!/bin/sh
# What docker-compose.yaml uses of the official postgres image: POSTGRES_DB, _USER and _PASSWORD, the *.sql files in
# /docker-entrypoint-initdb.d when the volume is new, and a server that is on the socket alone until those have run.
set -eu
programs=$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/postgresql/data
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$data" && chown postgres:postgres "$data"
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0"
fi
if [ ! -s "$data/PG_VERSION" ]; then
  password=$(mktemp)
  printf '%s' "$POSTGRES_PASSWORD" >"$password"
  "$programs/initdb" -D "$data" -U "$POSTGRES_USER" -A scram-sha-256 --auth-local=trust --pwfile="$password" --no-sync
  rm "$password"
  echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
  "$programs/pg_ctl" start -w -D "$data" -o "-c listen_addresses=''"
  echo 'CREATE DATABASE :"name"' | psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -v name="$POSTGRES_DB" -d postgres
  for file in /docker-entrypoint-initdb.d/*.sql; do
    if [ -f "$file" ]; then psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -f "$file"; fi
  done
  "$programs/pg_ctl" stop -w -D "$data"
fi
exec "$programs/postgres" -D "$data" -c listen_addresses='*'
