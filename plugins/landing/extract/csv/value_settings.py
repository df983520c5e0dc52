"""How values are read, as declared in `files`: for a whole entity, or by column.

Each option may be a value for all columns, or a map by column; `columns` has all options of one column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from landing.extract.csv.date_formats import DateFormat
from landing.extract.csv.rules import RULES

OPTIONS = ("null_values", "true_values", "false_values", "decimal_comma", "date_format", "normalize")
NORMALIZE = ("trim", "lower", "upper")
Options = Mapping[str, Any]


@dataclass(frozen=True)
class ValueSettings:
    """Options by column, options for all columns, and types by column."""

    columns: Mapping[str, Options] = field(default_factory=dict)
    everywhere: Options = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Any) -> ValueSettings:
        """Read the fields of a Declaration. Raises ValueError if one has no value that it can have."""
        columns: dict[str, dict[str, Any]] = {}
        everywhere, types = {}, dict(entry.types)
        for option in OPTIONS:
            declared = getattr(entry, option)
            if option == "decimal_comma" and isinstance(declared, (list, tuple)):
                declared = dict.fromkeys(declared, True)
            if isinstance(declared, Mapping):
                for column, value in declared.items():
                    columns.setdefault(column, {})[option] = _checked(f"{option}.{column}", option, value)
            elif declared is not None:
                everywhere[option] = _checked(option, option, declared)
        for column, given in entry.columns.items():
            for option, value in ((name, value) for name, value in given.items() if name not in RULES):
                where, known = f"columns.{column}.{option}", types if option == "type" else columns.get(column, {})
                name, value = (column, value) if option == "type" else (option, _checked(where, option, value))
                if known.setdefault(name, value) != value:
                    raise ValueError(f"{where} is declared twice, with different values")
                if option != "type":
                    columns[column] = known
        for where, options in (("", everywhere), *((f" of column {column!r}", one) for column, one in columns.items())):
            _refuse_ambiguous(where, {**everywhere, **options})
        return cls(columns, everywhere, types)


def _checked(where: str, option: str, value: Any) -> Any:
    if option == "decimal_comma":
        if not isinstance(value, bool):
            raise ValueError(f"{where} is not true or false")
        return value
    if option == "date_format":
        if not isinstance(value, str):
            raise ValueError(f"{where} is not a text")
        try:
            return DateFormat(value).text
        except ValueError as error:
            raise ValueError(f"{where}={value!r} {error}") from None
    values = tuple(_texts(where, value))
    if option == "normalize" and ({*values} - {*NORMALIZE} or {"lower", "upper"} <= {*values}):
        raise ValueError(f"{where}={[*values]} is not a list of trim and lower, or trim and upper")
    return values


def _texts(where: str, values: Any) -> Iterator[str]:
    for value in values if isinstance(values, (list, tuple)) else [values]:
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise ValueError(f"{where} has {value!r}, which is not a text: put it in quotes")
        yield str(value)


def _refuse_ambiguous(where: str, options: Options) -> None:
    lists = [(option, options.get(option, ())) for option in OPTIONS[:3]]
    for number, (option, values) in enumerate(lists):
        for other, others in lists[:number]:
            if both := sorted({*values} & {*others}):
                raise ValueError(f"{other} and {option}{where} both have {', '.join(map(repr, both))}")
