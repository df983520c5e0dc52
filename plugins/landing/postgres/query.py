"""One statement and its rows."""

from __future__ import annotations

from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor


def query(cursor: Cursor, statement: str | sql.Composable, values: Any = None) -> list[tuple]:
    """Execute a statement.

    Returns:
        Its rows; an empty list for a statement that returns none.
    """
    cursor.execute(statement, values)
    return cursor.fetchall() if cursor.description else []
