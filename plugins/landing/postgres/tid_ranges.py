"""Conditions on `ctid` that cut a table into ranges of pages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from psycopg2 import sql

SUPPORTED = 140000  # first server version that scans only the pages of a range


def conditions(cuts: Sequence[int]) -> list[sql.Composable | None]:
    """Ranges between the first pages of all but the first range, in order; None is all of the table."""
    if not cuts:
        return [None]
    tids = [sql.SQL("'({},0)'::tid").format(sql.Literal(page)) for page in cuts]
    first, last = sql.SQL("ctid < {}").format(tids[0]), sql.SQL("ctid >= {}").format(tids[-1])
    between = [sql.SQL("ctid >= {} AND ctid < {}").format(*pair) for pair in itertools.pairwise(tids)]
    return [first, *between, last]
