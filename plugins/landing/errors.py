"""Every error that a user can meet, in one tree.

    LandingError
    ├── SettingError              a date, a variable or a setting is not usable
    ├── UnreachableError          a PostgreSQL server lets nobody in
    ├── SourceError               the source cannot be read as it is
    │   └── BadFileError          a CSV file: file, line, reason
    ├── NoProofError              the tap's closing message is missing, or its counts disagree
    ├── ZoneError                 the landing zone
    │   ├── NotLandedError        a source's date is not there
    │   └── DamagedError          a manifest or a landed file is not what it was
    └── WarehouseError            the warehouse refuses, or would have to change something silently
        └── ProofError            source, files and warehouse do not agree

A message says what happened, where, what was expected and found, and what to run next.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

import psycopg2


class LandingError(Exception):
    """Base of all; its text is meant for people."""


class SettingError(LandingError):
    """A date, a variable or a setting is not usable."""


class UnreachableError(LandingError):
    """A PostgreSQL server lets nobody in."""


class SourceError(LandingError):
    """The source cannot be read as it is."""


class BadFileError(SourceError):
    """A CSV file is refused."""

    def __init__(self, path: object, line: int | None, reason: str) -> None:
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{where}: {reason}. Nothing of this source's date was committed; mend the file, "
                         "or change its declaration under tap-csv in meltano.yml, and run again.")


class NoProofError(LandingError):
    """The tap's closing message is missing, or its counts disagree with what arrived."""


class ZoneError(LandingError):
    """The landing zone cannot be read or written as it is."""


class NotLandedError(ZoneError):
    """A source's date is not landed."""


class DamagedError(ZoneError):
    """A manifest or a landed file is not what it was when it was committed."""


class WarehouseError(LandingError):
    """The warehouse refuses, or would have to change something silently."""


class ProofError(WarehouseError):
    """Source, files and warehouse do not agree."""


def describe(error: psycopg2.Error) -> str:
    """PostgreSQL's own words in one line: message, detail and hint, without the statement (it may hold values)."""
    said = error.diag
    parts = [said.message_primary or str(error).strip(), said.message_detail, said.message_hint, said.context]
    return "; ".join(" ".join(part.split()) for part in parts if part)


@contextlib.contextmanager
def reported(logger: logging.Logger) -> Iterator[None]:
    """Log one of ours, or one of PostgreSQL's, in a sentence instead of a traceback, and exit with status 1."""
    try:
        yield
    except LandingError as error:
        logger.error("%s", error)
        sys.exit(1)
    except psycopg2.Error as error:
        logger.error("PostgreSQL: %s", describe(error))
        sys.exit(1)
