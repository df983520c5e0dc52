"""Every error that a user can meet, in one tree.

    LandingError
    ├── SettingError              a date, a variable or a setting is not usable
    ├── CatalogError              the catalog is not that of this run, or lacks a declared table
    ├── UnreachableError          a PostgreSQL server lets nobody in
    │   └── PoolerError           a pooler is in between, and keeps no session
    ├── StalledError              a PostgreSQL server stopped answering
    ├── SourceError               the source cannot be read as it is
    │   └── BadFileError          a CSV file: file, line, reason
    ├── MessageError              what a tap sends can't be taken as it was meant: line, reason
    ├── NoProofError              the tap's closing message is missing, or its counts disagree
    ├── AfterCommitError          the date is committed, and what came after that failed
    ├── ZoneError                 the landing zone
    │   ├── NotLandedError        a source's date is not there
    │   ├── FrozenError           a landed date is past, or newer than this run: it stays as it is
    │   └── DamagedError          a manifest or a landed file is not what it was
    └── WarehouseError            the warehouse refuses, or would have to change something silently
        ├── RefusedError          it cannot have such a table
        └── ProofError            source, files and warehouse do not agree

A message says what happened, where, what was expected and found, and what to run next.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import sys
from collections.abc import Iterator

import psycopg2

# Line feeds, a terminal's commands, and characters that turn the direction of those around them.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class LandingError(Exception):
    """Base of all; its text is meant for people."""


class SettingError(LandingError):
    """A date, a variable or a setting is not usable."""


class CatalogError(LandingError):
    """The catalog is not that of this run, or lacks a declared table."""


class UnreachableError(LandingError):
    """A PostgreSQL server lets nobody in."""


class PoolerError(UnreachableError):
    """A pooler is in between, and keeps no session."""


class StalledError(LandingError):
    """A PostgreSQL server stopped answering."""


class SourceError(LandingError):
    """The source cannot be read as it is."""


class BadFileError(SourceError):
    """A CSV file is refused."""

    def __init__(self, path: object, line: int | None, reason: str) -> None:
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{where}: {reason}. Nothing of this source's date was committed; mend the file, "
                         "or change its declaration under tap-csv in meltano.yml, and run again.")


class MessageError(LandingError):
    """What a tap sends is refused."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"Line {line} of what the tap sends is refused: {reason}. Nothing was committed; correct the "
                         "tap or its settings, and run again.")


class IncompleteInputError(LandingError):
    """The tap's closing message is missing, or its counts disagree with what arrived."""


class AfterCommitError(LandingError):
    """The date is committed and complete; a step after the commit point failed."""


class ZoneError(LandingError):
    """The landing zone cannot be read or written as it is."""


class NotLandedError(ZoneError):
    """A source's date is not landed."""


class FrozenError(ZoneError):
    """A landed date must not be replaced by this run's rows."""


class DamagedError(ZoneError):
    """A manifest or a landed file is not what it was when it was committed."""


class WarehouseError(LandingError):
    """The warehouse refuses, or would have to change something silently."""


class RefusedError(WarehouseError):
    """The warehouse cannot have such a table: `what` is the matter, and what to do about it (`then`)."""

    def __init__(self, where: object, what: str, then: str, again: str = "") -> None:
        command = f", then land and load again: {again}" if again else "."
        super().__init__(f"{where}: {what}. Nothing was loaded. {then}{command}")
        self.where, self.what, self.then = where, what, then


class VerificationError(WarehouseError):
    """Source, files and warehouse do not agree."""


# What to do about what the system says.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Make room there (`landing gc` says what may go)"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Give the user of this process the right to it"),
    errno.EROFS: "Make it writable",
}


def describe(error: psycopg2.Error | OSError) -> str:
    """PostgreSQL's own words in one line: message, detail and hint, without the statement (it may hold values).

    The system's: file, reason and, where there is one, the remedy.
    """
    if isinstance(error, OSError):
        said = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return ". ".join(filter(None, [said, REMEDIES.get(error.errno)]))
    said = error.diag
    parts = [said.message_primary or str(error).strip(), said.message_detail, said.message_hint, said.context]
    return "; ".join(" ".join(part.split()) for part in parts if part)


def printable(text: str, *, lines: bool = False) -> str:
    """Text as it can be shown, whatever names are in it: in one line, or with its line feeds left."""
    return CONTROL.sub(lambda found: found[0] if lines and found[0] == "\n"
                       else found[0].encode("unicode_escape").decode(), text)


@contextlib.contextmanager
def reported(logger: logging.Logger) -> Iterator[None]:
    """Log one of ours, of PostgreSQL's or of the system's in a sentence, not a traceback, and exit with status 1."""
    try:
        yield
    except LandingError as error:
        logger.error("%s", printable(str(error), lines=True))
        sys.exit(1)
    except psycopg2.Error as error:
        logger.error("PostgreSQL: %s", describe(error))
        sys.exit(1)
    except OSError as error:
        logger.error("%s. When that is mended, run again.", describe(error))
        sys.exit(1)
    except Exception as error:
        if (said := getattr(error, "orig", None)) is None:  # SQLAlchemy's, with what the driver said
            raise
        logger.error("PostgreSQL: %s", " ".join(str(said).split()))
        sys.exit(1)


def storage_error(error: OSError, again: str) -> ZoneError:
    return ZoneError(f"{describe(error)}. Nothing was committed; run again then: {again}")


def sentence(error: Exception) -> str:
    said = describe(error) if isinstance(error, (OSError, psycopg2.Error)) else str(error) or type(error).__name__
    return said.rstrip(".") + "."
