"""The exceptions whose text is meant for users, in one tree.

    LandingError
    ├── SettingError              a date, variable or setting is invalid
    ├── CatalogError              the catalog is another run's, or lacks a declared table
    ├── UnreachableError          cannot connect to PostgreSQL
    │   └── PoolerError           a transaction pooler answers
    ├── StalledError              PostgreSQL stopped responding
    ├── SourceError               the source cannot be read
    │   └── BadFileError          a CSV file is rejected: file, line, reason
    │       └── UnsettledFileError    it cannot be read, or changed meanwhile
    ├── MessageError              a Singer message is invalid: line, reason
    ├── IncompleteInputError      the tap's completion message is missing, or its counts disagree
    ├── AfterCommitError          a step after the commit failed
    ├── ZoneError                 the landing zone cannot be read or written
    │   ├── NotLandedError        a source's date is not landed
    │   ├── FrozenError           a landed date must not be replaced
    │   ├── ConflictError         another run committed at the same time
    │   ├── UnknownOutcomeError   a store did not say whether it committed
    │   └── DamagedError          a manifest or landed file differs from what was committed
    └── WarehouseError            the warehouse rejects the load
        ├── RefusedError          a table cannot be created or changed as needed
        ├── CheckError            a check of a table does not hold
        ├── MigrationError        a migration cannot be run
        ├── TransformError        a model or a test of dbt failed
        └── VerificationError     source, files and warehouse differ

A message says what happened, where, what was expected and found, and what to run next.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg2

# Line feeds, terminal escapes, and characters that change the direction of text.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class LandingError(Exception):
    """Base class; its text is a complete message for the user."""


class SettingError(LandingError):
    """Raised before work begins if a date, variable or setting is invalid."""


class CatalogError(LandingError):
    """Raised if the catalog belongs to another run, or lacks a declared table."""


class UnreachableError(LandingError):
    """Raised if a connection to PostgreSQL cannot be opened."""


class PoolerError(UnreachableError):
    """Raised if a connection pooler runs the statements of one session in several backends."""


class StalledError(LandingError):
    """Raised if a PostgreSQL server sends nothing for `stall_timeout` seconds and is not busy."""


class SourceError(LandingError):
    """Raised if the source cannot be read completely and consistently."""


class BadFileError(SourceError):
    """Raised if a CSV file cannot be landed, or has a row that cannot be and must not be quarantined.

    Attributes:
        files: The files at fault.
        line: The first line of the row, if it is a row's fault.
        column: The column, if it is a value's.
        reason: Why.
    """

    def __init__(self, path: object, line: int | None, reason: str, column: str | None = None,
                 files: Sequence[object] | None = None) -> None:
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{where}: {reason}. Nothing of this source's date was committed. Correct the file, or its "
                         "declaration under tap-csv in meltano.yml, and run again.")
        self.files, self.line, self.column, self.reason = [path] if files is None else files, line, column, reason

    def add(self, sentence: str) -> None:
        """Say more."""
        self.args = (f"{self} {sentence}",)


class UnsettledFileError(BadFileError):
    """Raised if a CSV file cannot be read, or changed meanwhile: its content is not at fault."""


class MessageError(LandingError):
    """Raised by a target if a tap's message is invalid."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"Line {line} of the tap's output is invalid: {reason}. Nothing was committed. Correct the "
                         "tap or its settings, and run again.")


class IncompleteInputError(LandingError):
    """Raised by a target if the tap's completion message is missing, or its counts disagree with what arrived."""


class AfterCommitError(LandingError):
    """Raised if a step after the commit point fails; the date is committed and complete."""


class ZoneError(LandingError):
    """Raised if the landing zone cannot be read or written."""


class NotLandedError(ZoneError):
    """Raised if a source's date is needed and not landed."""


class FrozenError(ZoneError):
    """Raised if a run's rows must not replace a landed date."""


class ConflictError(ZoneError):
    """Raised if another run committed between this run's look at a date and its commit; nothing was changed."""


class UnknownOutcomeError(ZoneError):
    """Raised if a store does not say whether it carried out a put: what it names may be committed, or become so."""


class DamagedError(ZoneError):
    """Raised if a manifest or a landed file differs from what was committed."""


class WarehouseError(LandingError):
    """Raised if the warehouse cannot load the data without loss, or is in use."""


class RefusedError(WarehouseError):
    """Raised if the warehouse cannot have such a table.

    Attributes:
        where: The table or column.
        what: The problem.
        then: How to solve it.
    """

    def __init__(self, where: object, what: str, then: str, again: str = "") -> None:
        """`again` is the retry command."""
        command = f", then land and load again: {again}" if again else "."
        super().__init__(f"{where}: {what}. Nothing was loaded. {then}{command}")
        self.where, self.what, self.then = where, what, then


class CheckError(WarehouseError):
    """Raised if a check of a table blocks the load of its date."""


class MigrationError(WarehouseError):
    """Raised if a migration of the warehouse fails, or differs from what was run."""

    def __init__(self, what: str, then: str) -> None:
        super().__init__(f"{what}. Nothing was loaded. {then}, and load again.")


class TransformError(WarehouseError):
    """Raised if dbt fails: a model cannot be built, or a test of one does not hold."""


class VerificationError(WarehouseError):
    """Raised if source, files and warehouse differ."""


# Remedies for errors of the operating system.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free disk space there (`landing gc` lists what can be removed)"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Grant this process's user access to it"),
    errno.EROFS: "Make it writable",
}


def describe(error: psycopg2.Error | OSError) -> str:
    """An error in one line.

    PostgreSQL's message, detail, hint and context, but not the statement, which may contain values; or the operating
    system's file name and reason, with a remedy if there is one.
    """
    if isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return ". ".join(filter(None, [text, REMEDIES.get(error.errno)]))
    found = error.diag
    parts = [found.message_primary or str(error).strip(), found.message_detail, found.message_hint, found.context]
    return "; ".join(" ".join(part.split()) for part in parts if part)


def printable(text: str, *, lines: bool = False) -> str:
    """Escape control characters, which names can contain; `lines` keeps line feeds."""
    return CONTROL.sub(lambda found: found[0] if lines and found[0] == "\n"
                       else found[0].encode("unicode_escape").decode(), text)


def storage_error(error: OSError, again: str) -> ZoneError:
    """An error of the operating system before the commit, with the retry command."""
    return ZoneError(f"{describe(error)}. Nothing was committed. Then run: {again}")


def sentence(error: Exception) -> str:
    """Any error as one sentence."""
    text = describe(error) if isinstance(error, (OSError, psycopg2.Error)) else str(error) or type(error).__name__
    return text.rstrip(".") + "."


@contextlib.contextmanager
def named(path: Path | str) -> Iterator[None]:
    """Add the file name to OSErrors raised by an open file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
