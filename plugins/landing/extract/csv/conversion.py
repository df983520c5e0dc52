"""How a column's text becomes the text that PostgreSQL writes for its value, as DuckDB expressions.

A Reading converts a value or gives NULL. A text that it converts, or that is one of null_values, is `read`; all others
are rejected.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec import structs

from landing.core.errors import SettingError
from landing.extract.csv import inference
from landing.extract.csv.date_formats import DateFormat
from landing.extract.csv.value_settings import OPTIONS, Options, ValueSettings
from landing.model.declared_types import FLOATS, NOT_FINITE, SPACE, Declared, trimmed
from landing.model.schema import INTEGERS, Reading

# With a decimal comma, a point separates groups of three digits, and nothing else.
COMMA_NUMBER = r"[+-]?([0-9]+|[0-9]{1,3}(\.[0-9]{3})+)(,[0-9]*)?([eE][+-]?[0-9]{1,3})?|[+-]?,[0-9]+"
# To infer a number from: PostgreSQL's spelling, or groups and a comma. 1.234 alone may be anything.
CERTAIN_NUMBER = r"-?(0|[1-9][0-9]*)(,[0-9]+)?|-?[1-9][0-9]{0,2}(\.[0-9]{3})+,[0-9]+"
NUMBERS = {*INTEGERS, *FLOATS, "numeric"}
GUESS_BITS = 8  # of each way to read an undeclared column


@dataclass(frozen=True)
class ColumnReading:
    """How a column is read.

    Attributes:
        type: Declared, or implied by an option for this column; None to infer it.
        reading: What is converted.
        guesses: Further readings for a column without a type: the first one that fits all values is applied.
    """

    type: str | None
    reading: Reading
    guesses: tuple[Reading, ...] = ()

    @classmethod
    def of(cls, settings: ValueSettings, names: Sequence[str], where: str) -> ColumnReading:
        """Read the settings of a column.

        Args:
            settings: Those of the entity.
            names: The names that declarations may use for the column; the first one counts more.
            where: The entity and column, for messages.

        Raises:
            SettingError: Its options do not fit its type, or each other.
        """
        own = dict(ChainMap(*(dict(settings.columns.get(name, {})) for name in names)))
        type_ = next((settings.types[name] for name in names if name in settings.types), None)
        options = {option: value for option in OPTIONS if (value := own.get(option, settings.everywhere.get(option)))}
        implied = {_implied(option, own[option]) for option in OPTIONS if own.get(option)} - {None}
        if type_ is None and len(implied) > 1:
            raise SettingError(f"{where} has options of several types: {', '.join(sorted(implied))}. Declare its type, "
                               "and options that fit it.")
        type_ = type_ or next(iter(implied), None)
        unfit = [option for option in options if type_ and not _fits(option, options[option], type_)]
        if wrong := [option for option in unfit if option in own]:
            raise SettingError(f"{where} has the type {type_}, which {', '.join(wrong)} cannot be applied to. Correct "
                               "its type or its options.")
        nulls = Reading(**{option: tuple(options.get(option, ())) for option in ("null_values", "normalize")})
        others = {option: value for option, value in options.items()
                  if option not in (*unfit, "null_values", "normalize")}
        if type_:
            return cls(type_, structs.replace(nulls, **others))
        return cls(None, nulls, tuple(_guesses(nulls, others)))


def _implied(option: str, value: object) -> str | None:
    """The type of a column that has an option of its own."""
    return {"true_values": "boolean", "false_values": "boolean", "decimal_comma": "numeric",
            "date_format": DateFormat(value).type if option == "date_format" else None}.get(option)


def _fits(option: str, value: object, type_: str) -> bool:
    declared = Declared.of(type_)
    if option in ("null_values", "normalize"):
        return True
    if declared.array:
        return False
    if option == "decimal_comma":
        return declared.name in NUMBERS
    return DateFormat(value).fits(declared.name) if option == "date_format" else declared.name == "boolean"


def _guesses(nulls: Reading, options: Options) -> Iterator[Reading]:
    """In order. They apply to a column that would be text without them, so 0 and 1 stay numbers."""
    if options.get("decimal_comma"):
        yield structs.replace(nulls, decimal_comma=True)
    if options.get("date_format"):
        yield structs.replace(nulls, date_format=options["date_format"])
    if options.get("true_values") and options.get("false_values"):
        yield structs.replace(nulls, true_values=options["true_values"], false_values=options["false_values"])


def kind(column: ColumnReading, text: str) -> str:
    """DuckDB's expression for the bits of a value: those of inference.py, then those of each guess."""
    plain = inference.kind(text)
    if not column.guesses:
        return plain
    other = inference.BITS["text"]
    if column.guesses[0].decimal_comma:  # a point is no decimal point then
        plain = f"CASE WHEN {text} LIKE '%.%' AND {plain} = {inference.BITS['numeric']} THEN {other} ELSE {plain} END"
    guesses = [f"(coalesce({_guess(one, text)}, {other})::BIGINT << {GUESS_BITS * number})"
               for number, one in enumerate(column.guesses, 1)]
    return f"CASE WHEN {text} IS NOT NULL THEN {plain} | {' | '.join(guesses)} END"


def _guess(reading: Reading, text: str) -> str:
    if reading.decimal_comma:
        number = inference.kind(f"replace(replace({text}, '.', ''), ',', '.')")
        return f"CASE WHEN {_matches(text, CERTAIN_NUMBER)} THEN {number} END"
    return f"CASE WHEN {converted(reading, _type_of(reading), text)} IS NOT NULL THEN 1 END"


def _type_of(reading: Reading) -> str:
    return DateFormat(reading.date_format).type if reading.date_format else "boolean"


def inferred(column: ColumnReading, mask: int) -> ColumnReading:
    """The column with the type and reading that its mask gives."""
    plain, *ways = [mask >> GUESS_BITS * number & (1 << GUESS_BITS) - 1 for number in range(len(column.guesses) + 1)]
    if (type_ := inference.inferred(plain)) == "text":
        for reading, bits in zip(column.guesses, ways, strict=True):
            if reading.decimal_comma and (number := inference.inferred(bits)) != "text":
                return ColumnReading(number, reading)
            if not reading.decimal_comma and bits == 1:
                return ColumnReading(_type_of(reading), reading)
    return ColumnReading(type_, column.reading)


def normalized(reading: Reading, text: str) -> str:
    """DuckDB's expression for a text without outer spaces, in one case, or both, as the reading has it."""
    for how in reading.normalize:
        if how == "trim":
            text = trimmed(text) if text.isidentifier() else f"trim({text}, {_literal(SPACE)})"
        else:
            text = f"{how}({text})"
    return text


def is_null(reading: Reading, type_: str | None, text: str) -> str:
    """DuckDB's condition that a text stands for NULL."""
    if not reading.null_values:
        return f"{text} IS NULL"
    return f"({text} IS NULL OR {_among(_trimmed(type_, text), reading.null_values)})"


def converted(reading: Reading, type_: str | None, text: str) -> str:
    """DuckDB's expression for the converted text: NULL for null_values, and for what cannot be read."""
    text = normalized(reading, text)
    trimmed = _trimmed(type_, text)
    value = text
    if reading.decimal_comma:
        value = _number(type_, trimmed)
    elif reading.date_format:
        value = _moment(reading.date_format, type_, trimmed)
    elif reading.true_values or reading.false_values:
        value = (f"CASE WHEN {_among(trimmed, reading.true_values)} THEN 't' "
                 f"WHEN {_among(trimmed, reading.false_values)} THEN 'f' END")
    return f"CASE WHEN {is_null(reading, type_, text)} THEN NULL ELSE {value} END" if reading.null_values else value


def reason(reading: Reading, type_: str | None) -> str | None:
    """Why a text is rejected that a reading cannot convert; None if it converts all."""
    if reading.decimal_comma:
        return f"not a value of type {type_} with a decimal comma"
    if reading.date_format:
        return f"not a value of type {type_} in date_format {reading.date_format!r}"
    if reading.true_values or reading.false_values:
        return f"not a value of type {type_}: neither in true_values nor in false_values"
    return None


def _number(type_: str, text: str) -> str:
    name, scale = Declared.of(type_).name, Declared.of(type_).scale
    if name == "numeric" and Declared.of(type_).length:
        scale = scale or 0
    plain = f"replace(replace({text}, '.', ''), ',', '.')"
    whole, part = (f"split_part(ltrim({plain}, '+-'), '.', {number})" for number in (1, 2))
    bare = f"rtrim({part}, '0')"
    if name in FLOATS:
        part = bare
    elif scale is not None and scale >= 0:
        part = f"CASE WHEN length({bare}) <= {scale} THEN rpad({bare}, {scale}, '0') ELSE {part} END"
    sign = f"CASE WHEN {plain} LIKE '-%' AND regexp_matches({plain}, '[1-9]') THEN '-' ELSE '' END"
    if name in FLOATS:
        sign = f"CASE WHEN {plain} LIKE '-%' THEN '-' ELSE '' END"
    spelled = (f"{sign} || coalesce(nullif(ltrim({whole}, '0'), ''), '0') || "
               f"CASE WHEN ({part}) = '' THEN '' ELSE '.' || ({part}) END")
    return (f"CASE WHEN {_matches(text, NOT_FINITE)} THEN {text} WHEN NOT {_matches(text, COMMA_NUMBER)} THEN NULL "
            f"WHEN lower({text}) LIKE '%e%' THEN {plain} ELSE {spelled} END")


def _moment(text_format: str, type_: str, text: str) -> str:
    format_, name = DateFormat(text_format), Declared.of(type_).name
    moment = f"try_strptime({text}, {_literal(text_format)})"
    if "z" in format_.has:  # DuckDB's own text depends on its time zone
        moment = f"make_timestamp(epoch_us({moment}))"
    if name == "date":
        value = (f"CASE WHEN {moment} = date_trunc('day', {moment}) THEN {moment}::DATE::VARCHAR "
                 f"ELSE {moment}::VARCHAR END")
    elif name == "time without time zone":
        value = f"{moment}::TIME::VARCHAR"
    else:
        value = f"{moment}::VARCHAR" + (" || '+00'" if name == "timestamp with time zone" else "")
    return f"CASE WHEN {_matches(text, format_.pattern)} THEN {value} END"


def _trimmed(type_: str | None, text: str) -> str:
    """Without the outer spaces that PostgreSQL ignores."""
    return f"trim({text}, {_literal(SPACE)})" if type_ and Declared.of(type_).spaced else text


def _among(text: str, values: tuple[str, ...]) -> str:
    return f"{text} IN ({', '.join(map(_literal, values))})" if values else "false"


def _matches(text: str, pattern: str) -> str:
    return f"regexp_full_match({text}, {_literal(pattern)})"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
