"""The completion message: the last STATE of a tap of ours carries it under the key `landing`.

A target sees the end of its input both when a tap succeeds and when it dies. So it commits only after this message,
and only if what it counts is what arrived.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
from msgspec import Struct

from landing.model.increment import Cursor, Increment
from landing.model.inputs import Input
from landing.model.naming import RunId
from landing.model.schema import File, Table
from landing.model.validation import Count, Moment, Scalar, Text
from landing.singer.reader import converted

COMPLETION = "landing"


class Sent(Struct, omit_defaults=True):
    """What was sent of one stream: rows, and the files that hold them if they went as files.

    `increment`, `appended`, `cursor`, `full_because`: as in the manifest's table.
    """

    rows: Count
    files: list[File]
    increment: Increment | None = None
    appended: bool = False
    cursor: Cursor | None = None
    full_because: Text | None = None

    def note(self, table: Table) -> None:
        """Take over what an extract found out of a table."""
        self.increment, self.appended = table.increment, table.appended
        self.cursor, self.full_because = table.cursor, table.full_because


class Completion(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tap sent. `streams` are by the name that each message gave its stream."""

    run_id: RunId
    streams: dict[Text, Sent]
    extracted_at: date | None = None
    # Of an extract:
    source: Text | None = None
    started_at: Moment | None = None
    taken_at: Moment | None = None  # when the snapshot was taken
    snapshot: dict[str, Scalar] = {}
    kept: bool = False  # the partition is frozen, and nothing was sent
    unreadable: dict[Text, Text] = {}  # why, by stream: relations that hold no data by nature
    left_out: dict[str, list[Text] | None] = {}  # columns by stream, None for a whole stream
    inputs: dict[Text, list[Input]] = {}  # by entity: files to be moved after the commit
    # Of a load:
    sources: list[Text] | None = None
    left_out_sources: list[Text] = []  # on purpose, by WITHOUT_SOURCES
    without_data: dict[Text, list[Text]] = {}  # streams that hold no data at the source, by source

    def to_state(self) -> dict[str, Any]:
        """The part of a STATE's value."""
        return {COMPLETION: msgspec.to_builtins(self)}

    @classmethod
    def of_state(cls, value: dict[str, Any] | None) -> Completion | None:
        """The completion message of a STATE's value, if it has one. Raises BadLineError if it is not valid."""
        raw = (value or {}).get(COMPLETION)
        return None if raw is None else converted(raw, cls, "the completion message")
