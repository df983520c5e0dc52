"""Run one example whole: sample data, extract, load, verify, transform with its tests, dashboard.

    python examples/run.py NAME       (make example NAME=totesys DATE=2025-03-03)
    python examples/run.py --clean    remove what the examples created, but not what was landed from other servers

DATE (default: today in UTC), SCHEMA (default: the example's name) and FILES (CSV files in place of the sample's) come
from the environment. With WATCH (seconds) it stays, and runs again for today whenever new files have come. Servers are
those of SOURCE_POSTGRES_* and TARGET_POSTGRES_* in the environment, in the example's `.env` or in the project's;
without them it is the embedded PostgreSQL, with sample data.
"""

import os
import shutil
import subprocess
import sys
import time

import psycopg2
import servers
from example import SAMPLE, Example
from landing.api import (
    JOB_PREFIX,
    LandingError,
    SettingError,
    connect,
    declared_sources,
    keep_private,
    parse_date,
    refuse_future,
    today,
)
from steps import meltano, say, verify

DASHBOARD = servers.PROJECT / "dashboard" / "dashboard.py"
MADE = (".meltano", SAMPLE, ".env")


def run_date() -> str:
    """DATE, or today in UTC."""
    given = os.environ.get("DATE")
    return str(today() if given is None else refuse_future(parse_date(given, "DATE"), "DATE"))


def run(example: Example, day: str) -> None:
    """All steps, in the example's folder; with WATCH again, for today, whenever new files have come."""
    sampled, pause, schema = example.connect(), watched(), os.environ["SCHEMA"]
    with example.serving(sampled):
        if sampled:
            example.generator.generate(parse_date(day, "DATE"))
        keep_private([])  # only now: the server's account needs access to its folder
        steps(example, day, schema)
        while pause:
            time.sleep(pause)
            if example.has_new_files():
                try:
                    steps(example, str(today()), schema)
                except (SystemExit, subprocess.CalledProcessError) as error:  # such as a file that was refused
                    say(str(error))


def steps(example: Example, day: str, schema: str) -> None:
    """Extract, load, verify, transform, dashboard."""
    log = example.folder / ".meltano" / "example.log"
    log.unlink(missing_ok=True)
    meltano(log, "extract", [JOB_PREFIX + source for source in declared_sources()], DATESTAMP=day)
    load = {"SCHEMA": schema, "EXTRACTED_AT": day}
    meltano(log, "load", ["load_to_postgres"], **load)
    verify(day, SCHEMA=schema)
    example.loaded(parse_date(day, "DATE"), schema)
    meltano(log, "load", ["transform"], **load)
    subprocess.run([sys.executable, DASHBOARD], env=os.environ | load, check=True)


def watched() -> int:
    """WATCH, or 0. Raises SettingError if it is not a number of seconds."""
    given = os.environ.get("WATCH") or "0"
    if not given.isascii() or not given.isdigit():
        raise SettingError(f"WATCH={given!r} is not a number of seconds, such as 60. Correct it, and run again.")
    return int(given)


def how_to_connect(example: Example) -> None:
    """Print the connection of the warehouse."""
    info = connect().info
    say(f"Warehouse: PostgreSQL, host {info.host}, port {info.port}, database {info.dbname}, user {info.user}; schema "
        f"marts. In examples/{example.name}, ../../.venv/bin/meltano has all other commands.")


def clean() -> None:
    """Remove what the examples created; what was landed from other servers stays, and so does a person's `.env`."""
    for example in Example.all():
        for path in (example.folder / name for name in (*MADE, *getattr(example.generator, "MADE", ()))):
            if path.is_dir():
                shutil.rmtree(path)
            elif path != example.env or servers.ours(path):
                path.unlink(missing_ok=True)
        if any((example.folder / "output").glob("source=*")):
            say(f"Not the sample's: {example.folder / 'output'} is removed with CLEAN_LANDED=yes only")


def main() -> None:
    if sys.argv[1:] == ["--clean"]:
        return clean()
    started = time.monotonic()
    example, day = Example.named((sys.argv[1:] or [None])[0]), run_date()
    example.enter()
    run(example, day)
    how_to_connect(example)
    return say(f"Done in {time.monotonic() - started:.0f} s. A later DATE brings changes, the same one changes nothing."
               " `make stop` stops the embedded server, `make clean` removes everything.")


if __name__ == "__main__":
    try:
        main()
    except (LandingError, servers.ServerError, psycopg2.Error, OSError) as error:
        sys.exit(f"example: {str(error).strip()}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:  # the end of WATCH
        sys.exit(130)
