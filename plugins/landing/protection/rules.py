"""The setting `protect`: methods by table and column, each a name or a pattern; the more exact one wins."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from landing.core.errors import SettingError
from landing.protection.methods import METHODS, PLAIN

Tables = Mapping[str, Mapping[str, Collection[str]]]  # by table and column: the names that may mean the column
THEN = "Nothing was extracted. Correct `protect` in meltano.yml, and run again."


@dataclass(frozen=True)
class Rule:
    """A method for what a path names, whose parts are the setting's keys, divided at their dots.

    Meltano divides and joins keys at dots, so a path may be divided between table and column in several ways.
    """

    path: tuple[str, ...]
    method: str

    def __str__(self) -> str:
        return f"{self.path[-1]!r} of {'.'.join(self.path[:-1])!r}"

    def rank(self, table: str, names: Collection[str]) -> int:
        """How exactly it names a column: 0 not at all, 2 by patterns alone, 4 by names."""
        ranks = [0]
        for cut in range(1, len(self.path)):
            table_pattern, column_pattern = ".".join(self.path[:cut]), ".".join(self.path[cut:])
            column = max((_rank(column_pattern, name) for name in names), default=0)
            if column and (of_table := _rank(table_pattern, table)):
                ranks.append(column + of_table)
        return max(ranks)


def _rank(pattern: str, name: str) -> int:
    return 2 if pattern == name else int(fnmatchcase(name, pattern))


def rules(setting: Mapping[str, Any]) -> list[Rule]:
    """The rules of a setting: methods by column, by table. Raises SettingError for what is neither."""
    return [_rule(path, method) for path, method in _flat(setting, ())]


def _flat(setting: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in setting.items():
        path = (*above, *str(name).replace("\\.", ".").split("."))
        if isinstance(value, Mapping):
            yield from _flat(value, path)
        else:
            yield path, value


def _rule(path: tuple[str, ...], method: Any) -> Rule:
    if len(path) < 2 or method not in METHODS:
        raise SettingError(f"protect: {'.'.join(path)}: {method!r} is not a method for a column. Expected a table or a "
                           f"pattern, in it columns or patterns, each with one of {', '.join(METHODS)}. {THEN}")
    return Rule(path, method)


def methods(given: Sequence[Rule], tables: Tables) -> dict[str, dict[str, str]]:
    """The methods by table and column; a column that stays as it is is left out.

    Raises:
        SettingError: A rule matches nothing, or two that are as exact as each other differ.
    """
    found: dict[str, dict[str, str]] = {table: {} for table in tables}
    unmatched = dict.fromkeys(given)
    for table, columns in tables.items():
        for column, names in columns.items():
            ranks = {one: rank for one in given if (rank := one.rank(table, names))}
            for one in ranks:
                unmatched.pop(one, None)
            if ranks and (method := _best(ranks, f"{table}.{column}")) != PLAIN:
                found[table][column] = method
    if unmatched:
        raise _unmatched(next(iter(unmatched)), tables)
    return found


def _best(ranks: Mapping[Rule, int], where: str) -> str:
    best = [one for one, rank in ranks.items() if rank == max(ranks.values())]
    if len({one.method for one in best}) > 1:
        raise SettingError(f"protect: {where} has {' and '.join(f'{one.method} by {one}' for one in best)}, which are "
                           f"as exact as each other. Name the column under its table. {THEN}")
    return best[0].method


def _unmatched(rule: Rule, tables: Tables) -> SettingError:
    known = {*tables, *(name for columns in tables.values() for names in columns.values() for name in names)}
    names = {*rule.path, ".".join(rule.path[:-1])} - known
    close = [one for name in sorted(names) for one in difflib.get_close_matches(name, sorted(known), n=3)]
    hint = f" Is it {' or '.join(dict.fromkeys(close))}?" if close else ""
    return SettingError(f"protect: {rule} matches no column of the source: it may be renamed, and would be landed in "
                        f"plain.{hint} {THEN}")
