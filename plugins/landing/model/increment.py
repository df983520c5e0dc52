"""Increments: partitions of a table that hold only what changed since an earlier date, their base."""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Annotated

from msgspec import Meta, Struct, field

from landing.model.naming import RunId
from landing.model.validation import Count, Text

Number = Annotated[int, Meta(ge=1)]


class Cursor(Struct, frozen=True, omit_defaults=True):
    """Where the next increment of a PostgreSQL table begins. The manifest's `snapshot` has the rest.

    Attributes:
        column: The replication key.
        value: Its largest value, as text; None if no row has one.
        relations: oids of the tables that the rows came from, if their row versions tell what changed since.
        definition: Hash of what the text of values depends on, besides the rows.
        where: Conditions that rows had to satisfy.
    """

    column: Text
    value: Text | None = None
    relations: list[Count] = []
    definition: Text | None = None
    where: list[Text] = []


class Increment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a partition of a table stands on.

    Attributes:
        base: Date of the partition before it in its chain.
        base_run_id: That partition's run: taken again, it is another base.
        base_sha256: Checksum of the base's whole chain.
        total_rows: Rows of the whole table, of which the partition has those that changed.
        number: How many increments the chain has, this one included.
        start: The base's largest replication key.
    """

    base: date
    base_run_id: RunId
    base_sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    total_rows: Count
    number: Number
    start: Text | None = field(name="from", default=None)


def chained(base: str, own: str) -> str:
    """Checksum of a chain, of its base's and of the last partition's."""
    return hashlib.sha256(f"{base}\n{own}".encode()).hexdigest()
