"""A person's SQL over one row: an expression over its columns that depends on nothing else.

DuckDB parses the text; then its tree is checked, and its columns are replaced by expressions of ours. It cannot read a
file, a table, a setting or a clock, so it gives the same value in each pass over a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a module that keeps a type of DuckDB has its bindings print what is not collected at the exit
    from duckdb import DuckDBPyConnection

CLASSES = {"BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR",
           "TYPE"}
MACROS = {"if", "nullif", "split_part"}  # those of DuckDB's macros whose result depends on their arguments alone

FUNCTIONS = """
SELECT function_name FROM duckdb_functions() GROUP BY function_name
HAVING bool_and(function_type = 'scalar' AND stability = 'CONSISTENT') AND function_name <> 'version'
"""


@dataclass(frozen=True)
class RowSql:
    """A checked expression: as it was written, the columns that it names, and DuckDB's SQL for it."""

    text: str
    columns: tuple[str, ...]
    sql: str


class RowSqlParser:
    """Checks expressions over one table's columns."""

    def __init__(self, connection: DuckDBPyConnection, column: Callable[[str], str]) -> None:
        """`column`: DuckDB's SQL for the value of a column, by a name in the text; ValueError if there is none."""
        self._connection, self._column = connection, column
        self._functions = {name for name, in connection.execute(FUNCTIONS).fetchall()} | MACROS

    def parse(self, text: str) -> RowSql:
        """Raises ValueError for what is not such an expression."""
        tree = self._tree(text)
        node, = tree["statements"][0]["node"]["select_list"]
        columns = dict.fromkeys(name for one in _nodes(node) if (name := self._checked(one)))
        replaced = {name: self._tree(self._column(name))["statements"][0]["node"]["select_list"][0] for name in columns}
        tree["statements"][0]["node"]["select_list"] = [_replaced(node, replaced)]
        select, = self._connection.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(tree)]).fetchone()
        return RowSql(text, tuple(columns), select.removeprefix("SELECT "))

    def _tree(self, text: str) -> dict[str, Any]:
        statement = f"SELECT ({text}\n)"  # behind a line feed, a comment at the end cannot hide the bracket
        found = json.loads(self._connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [statement]).fetchone()[0])
        if found["error"]:
            raise ValueError(found["error_message"])
        node = found["statements"][0]["node"]
        if len(found["statements"]) > 1 or len(node["select_list"]) > 1 or node["from_table"]["type"] != "EMPTY":
            raise ValueError("it is not one expression")
        return found

    def _checked(self, node: dict[str, Any]) -> str | None:
        """The column that a node names. Raises ValueError for a node that depends on more than the row."""
        if (kind := node["class"]) not in CLASSES:
            raise ValueError(f"it has a {kind.lower().replace('_', ' ')}, and may only use the row's columns, "
                             "constants, operators and functions of these")
        if kind == "FUNCTION" and node["function_name"] not in self._functions:
            raise ValueError(f"the function {node['function_name']} does not exist, or does not depend on its "
                             "arguments alone")
        if kind == "COLUMN_REF":
            return ".".join(node["column_names"])
        return None


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All expressions of a tree."""
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        tree = list(tree.values())
    for part in tree if isinstance(tree, list) else ():
        yield from _nodes(part)


def _replaced(tree: Any, columns: dict[str, Any]) -> Any:
    """A tree with the nodes of its columns replaced."""
    if isinstance(tree, dict):
        if tree.get("class") == "COLUMN_REF":
            return columns[".".join(tree["column_names"])]
        return {name: _replaced(part, columns) for name, part in tree.items()}
    return [_replaced(part, columns) for part in tree] if isinstance(tree, list) else tree
