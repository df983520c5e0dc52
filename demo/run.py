"""The whole demo: start the servers and write the sample if missing, then extract, load, verify, query.

    python demo/run.py

With your own `.env`, it uses the servers named there and writes no sample.
"""

import os
import subprocess
import sys
import time

import psycopg2
import servers
import shop
from landing.api import (
    JOB_PREFIX,
    LandingError,
    connect,
    declared_sources,
    keep_private,
    results_folder,
    table,
    today,
)
from psycopg2 import sql
from steps import meltano, say, verify

FOLDER = servers.PROJECT
LOG = servers.DEMO / "meltano.log"
QUERY = FOLDER / "load" / "orders_with_details.sql"
ROWS = 5  # shown rows of the result
FIRST, LAST = 4, 5  # shown columns of the result


def result() -> None:
    """Print the first orders with their details, and write all to a file."""
    path = results_folder() / "orders_with_details.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    query = QUERY.read_text().rstrip().rstrip(";")
    connection = connect()
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = public")
        cursor.execute("SELECT to_regclass('orders') IS NULL OR to_regclass('order_details') IS NULL")
        if cursor.fetchone()[0]:
            say("\nThis warehouse lacks orders and order_details: skipped the result query.")
            return
        with path.open("w") as file:
            cursor.copy_expert(sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, HEADER)").format(sql.SQL(query)), file)
        count = cursor.rowcount
        cursor.execute(query)
        names = [column.name for column in cursor.description]
        rows = [[*map(str, row[:FIRST]), "…", *map(str, row[-LAST:])] for row in cursor.fetchmany(ROWS)]
    say(f"\n{QUERY.relative_to(FOLDER)}: {count:,} rows of {len(names)} columns, written to {path}")
    say(table([*names[:FIRST], "…", *names[-LAST:]], rows))


def how_to_connect() -> None:
    """Print the connection for DBeaver, pgAdmin and psql."""
    info = connect().info
    say(
        f"\nConnect with DBeaver or pgAdmin: PostgreSQL, host {info.host}, port {info.port}, database {info.dbname}, "
        f"user {info.user}; the password is in .env.\nOr with psql: "
        '(set -a; . ./.env; PGPASSWORD=$TARGET_POSTGRES_PASSWORD psql -h "$TARGET_POSTGRES_HOST" '
        '-p "$TARGET_POSTGRES_PORT" -U "$TARGET_POSTGRES_USER" "$TARGET_POSTGRES_DB")'
    )


def main() -> None:
    started = time.monotonic()
    os.chdir(FOLDER)
    servers.DEMO.mkdir(exist_ok=True)
    LOG.unlink(missing_ok=True)
    servers.start()
    shop.sample()
    keep_private([])  # only now: the server's account needs access to its folder
    day = today().isoformat()
    meltano(LOG, "extract", [JOB_PREFIX + source for source in declared_sources()], DATESTAMP=day)
    meltano(LOG, "load", ["load_to_postgres"], SCHEMA="public", EXTRACTED_AT=day)
    verify(day)
    result()
    how_to_connect()
    say(f"\nDone in {time.monotonic() - started:.0f} s. Re-running creates no duplicates. `make next-day` simulates "
        "a day of changes, `make stop` stops the servers, `make clean` removes everything.")


if __name__ == "__main__":
    try:
        main()
    except (LandingError, servers.ServerError, shop.ShopError, psycopg2.Error, OSError) as error:
        sys.exit(f"demo: {str(error).strip()}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
