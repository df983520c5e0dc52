"""A table that was landed in increments, as a load gets it: the partitions that make up the whole of it."""

from __future__ import annotations

from datetime import date

from msgspec import Struct

from landing.model.naming import RunId
from landing.model.schema import Column, File, Sha256
from landing.model.validation import Count, Text


class Partition(Struct, frozen=True):
    """One of them. `urls`: of its files."""

    columns: list[Column]
    files: list[File]
    urls: list[Text]


class Whole(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A table that was landed in increments.

    Attributes:
        rows: Of the whole table.
        sha256: Of its whole chain.
        base: Date of the partition that the last one stands on.
        base_run_id: That partition's run.
        links: All partitions, the whole one first; none if all of its rows are sent as RECORDs.
    """

    rows: Count
    sha256: Sha256
    base: date
    base_run_id: RunId
    links: list[Partition] = []
