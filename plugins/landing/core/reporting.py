"""How an error leaves a program: one log line, exit status 1, and a line in the file that LANDING_ERRORS names.

The caller of several programs, as Airflow's DAG calls Meltano with its plugins, sets that variable and reads from the
file why they failed. A program that is killed by SIGKILL leaves nothing there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2

from landing.core.errors import LandingError, describe, printable
from landing.core.redaction import without_secrets

FILE_VARIABLE = "LANDING_ERRORS"
LONGEST = 4000  # characters of a stored message
# What a plugin reports because the one at the other end of the pipe has failed.
CONSEQUENCES = ("IncompleteInputError", "BrokenPipeError")


@contextlib.contextmanager
def reported(logger: logging.Logger, also: Callable[[Exception, str], None] = lambda *_: None) -> Iterator[None]:
    """Log our own errors, PostgreSQL's and the operating system's without a traceback, and exit with status 1.

    Args:
        logger: Where to.
        also: Called with the error and its message.
    """
    try:
        yield
    except Exception as error:
        leave(logger.name, type(error).__name__, stored(error))
        if (text := expected(error)) is None:
            raise
        logger.error("%s", text)
        also(error, text)
        sys.exit(1)


def expected(error: BaseException) -> str | None:
    """The message of an error that needs no traceback; None for any other."""
    if isinstance(error, LandingError):
        return printable(str(error), lines=True)
    if isinstance(error, psycopg2.Error):
        return f"PostgreSQL: {describe(error)}"
    if isinstance(error, OSError):
        return f"{describe(error)}. Then run again."
    if (cause := getattr(error, "orig", None)) is not None:  # SQLAlchemy's error, with the driver's
        return "PostgreSQL: " + " ".join(str(cause).split())
    return None


def stored(error: BaseException) -> str:
    """An error's message as it may be kept: without secrets, control characters escaped, of limited length."""
    text = expected(error) or f"{type(error).__name__}: {error}"
    return printable(" ".join(without_secrets(text).split()))[:LONGEST]


def leave(program: str, error: str, message: str) -> None:
    """Append an error to the file of the caller, if it wants one. Write failures are logged, never raised."""
    if path := os.environ.get(FILE_VARIABLE):
        line = json.dumps({"program": program, "error": error, "message": message}) + "\n"
        try:
            with Path(path).open("a") as file:
                file.write(line)
        except OSError as failure:
            logging.getLogger(program).warning("%s could not be written: %s", FILE_VARIABLE, describe(failure))


def errors_in(path: Path) -> str | None:
    """What the programs of a run left in their caller's file, each with its name; None if they left nothing."""
    found = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):  # cut short by a full disk or a kill
            found.append(json.loads(line))
    causes = [one for one in found if one["error"] not in CONSEQUENCES] or found
    return " ".join(f"{one['program']}: {one['message']}" for one in causes) or None
