"""Declared SQL types, as DuckDB conditions over a column's text.

A declared type must hold each value exactly, however it is spelled; with `lossy: true`, PostgreSQL must be able to read
the text as that type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from landing.model.schema import INTEGERS

ALIASES = {
    "int2": "smallint", "int": "integer", "int4": "integer", "int8": "bigint", "decimal": "numeric", "dec": "numeric",
    "float4": "real", "float": "double precision", "float8": "double precision", "bool": "boolean",
    "time": "time without time zone", "timetz": "time with time zone", "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone", "varchar": "character varying", "char varying": "character varying",
    "char": "character", "varbit": "bit varying",
}

# PostgreSQL stores values of these types unchanged or rejects them: see literals.py.
UNCHANGED = {"text", "json", "xml", "bytea", "inet", "cidr", "macaddr", "macaddr8", "pg_lsn", "bpchar",
             "character varying", "bit varying", '"bit"', "numrange", "int4range", "int8range"}
UNCHANGED_IN_ARRAYS = UNCHANGED | {*INTEGERS, "numeric", "boolean", "uuid"}
SPACE = " \t\n\r\f\v"  # ignored by PostgreSQL around values of SPACED types
SPACED = {*INTEGERS, "numeric", "real", "double precision", "boolean", "oid", "interval", "date",
          *(f"{name} {zone} time zone" for name in ("time", "timestamp") for zone in ("with", "without"))}
NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?"
PLAIN = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)"

SHAPES = {
    "boolean": "(?i)t(r(ue?)?)?|f(a(l(se?)?)?)?|y(es?)?|no?|on|off?|1|0",
    "uuid": "(?i)[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}",
}
NOT_FINITE = "(?i)nan|[+-]?inf(inity)?"
INFINITE = "(?i)-?infinity"
DAY = "([0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}|[0-9]{8})"
CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.%s)?)?"
FRACTION = "[0-9]{1,9}"
ZONE = "(Z|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)?"
MIDNIGHT = r"([ T]00:00(:00(\.0{1,9})?)?)?"
DATES = {"date", "timestamp without time zone", "timestamp with time zone"}
TIMES = {"time without time zone": "", "time with time zone": ZONE}
# Each unit once, in order, with so few digits that their sum is in range.
AMOUNTS = "".join(rf"([+-]?[0-9]{{1,{digits}}} {unit}s?( |$))?" for unit, digits in (
    ("year", 7), ("(mon|month)", 8), ("week", 7), ("day", 8)))
CLOCK_AMOUNTS = "".join(rf"([+-]?[0-9]{{1,9}} {unit}s?( |$))?" for unit in ("hour", "(min|minute)", "(sec|second)"))
SPANS = AMOUNTS + rf"({CLOCK_AMOUNTS}|[+-]?[0-9]{{1,9}}:[0-5][0-9](:[0-5][0-9](\.%s)?)?)"
ISO_SPANS = (r"P(-?[0-9]{1,7}Y)?(-?[0-9]{1,8}M)?(-?[0-9]{1,7}W)?(-?[0-9]{1,8}D)?"
             r"(T(-?[0-9]{1,9}H)?(-?[0-9]{1,9}M)?(-?[0-9]{1,9}(\.%s)?S)?)?")
MICROSECONDS = 6  # digits
DECIMAL_DIGITS = 38  # of DuckDB's DECIMAL
FLOATS = {"real": (1.2e-38, 3.4e38), "double precision": (2.3e-308, 1.79e308)}
DIGITS = {"real": 6, "double precision": 15}  # decimal digits that survive a round trip through the float


@dataclass(frozen=True)
class Declared:
    """A parsed type: format_type()'s name, its modifiers, and whether it is an array."""

    name: str
    length: int | None
    scale: int | None
    array: bool

    @classmethod
    def of(cls, type_: str) -> Declared:
        """Parse a type that schema.TYPE matches."""
        name, length, scale, rest, array = re.fullmatch(
            r"([^(\[]+)(?:\((-?\d+)(?:, ?(-?\d+))?\))?([^\[]*)((?:\[\])*)", type_).groups()
        name, length = ALIASES.get(name + rest, name + rest), length and int(length)
        if name == "double precision" and length:  # float(24)
            name, length = "real" if length <= 24 else name, None
        if name == "bpchar" and length:
            name = "character"
        if name in ("character", "bit") and length is None:
            length = 1
        return cls(name, length, scale and int(scale), bool(array))

    @property
    def spaced(self) -> bool:
        """Whether spaces around a value are ignored."""
        return self.name in SPACED

    @property
    def unchanged(self) -> bool:
        """Whether PostgreSQL stores or rejects each value, but changes none."""
        if self.array:
            return self.name in UNCHANGED_IN_ARRAYS and self.length is None
        return self.name in UNCHANGED and (self.length is None or self.name == "bit varying")


def loss_unknown(type_: str) -> bool:
    """Whether PostgreSQL may change a value of the type, in a way that held() cannot predict."""
    return not Declared.of(type_).unchanged and held(type_, "c") is None


def held(type_: str, column: str) -> str | None:
    """DuckDB's condition that a declared type holds the text's value exactly.

    Values are compared, not spellings: numeric(10,1) holds 12.50.

    Args:
        type_: The declared type.
        column: The column; trimmed, if the type is `spaced`.

    Returns:
        The condition, or None if only PostgreSQL can tell.
    """
    declared = Declared.of(type_)
    name, length = declared.name, declared.length
    if declared.array:
        return None
    if name == "numeric" and length:
        return _held_decimal(length, declared.scale or 0, column)
    if name == "numeric":
        return f"strlen({column}) <= 1000 AND {matches(column, f'{NUMBER}|{NOT_FINITE}')}"
    if name in FLOATS:
        return _held_float(name, column)
    if name in DATES:
        return _held_date(name, MICROSECONDS if length is None else length, column)
    exact = _exact_fraction(MICROSECONDS if length is None else length)
    if name in TIMES:
        return matches(column, CLOCK % exact + TIMES[name])
    if name == "interval":
        return _interval(exact, column)
    if name == "money":
        return matches(column, r"-?\$?[0-9]{1,16}(\.[0-9]{0,2}0{0,20})?")
    if name == "character varying" and length:
        return f"length({column}) <= {length}"  # PostgreSQL would cut excess spaces
    if name in ("name", '"char"'):
        return f"strlen({column}) <= {63 if name == 'name' else 1}"
    return fits(type_, column)


def fits(type_: str, column: str) -> str | None:
    """DuckDB's condition that PostgreSQL 15 and later certainly read the text as a type, possibly with loss.

    PostgreSQL reads more spellings than this ("Jan 8 1999").

    Returns:
        The condition, or None if only PostgreSQL can tell.
    """
    declared = Declared.of(type_)
    name, length = declared.name, declared.length
    if declared.array:
        return None
    if name in INTEGERS or name in FLOATS or name == "numeric":
        return _number(name, length, declared.scale or 0, column)
    if name in ("character varying", "character") and length:
        return f"length(rtrim({column}, ' ')) <= {length}"
    if name in SHAPES:
        return matches(column, SHAPES[name])
    if name in TIMES:
        clock, offset = CLOCK % FRACTION, ZONE.replace("Z|", "")
        return (f"({matches(column, clock + (TIMES[name] or offset))} "
                f"OR {matches(column, f'{DAY} {clock}{offset}')} AND {calendar(column)})")
    if name == "interval":
        return _interval(FRACTION, column)
    if name == "money":
        return matches(column, r"-?\$?[0-9]{1,16}(\.[0-9]{0,20})?")
    if name == "oid":
        return f"{matches(column, '[0-9]{1,10}')} AND TRY_CAST({column} AS BIGINT) < 4294967296"
    if name == "bit":
        return f"{matches(column, '[Bb]?[01]*')} AND length(ltrim({column}, 'Bb')) = {length}"
    if name in ("name", '"char"'):
        return "true"  # cut
    if name in DATES:
        clock = f"([ T]{CLOCK % FRACTION}{ZONE})?"
        return f"({matches(column, DAY + clock)} AND {calendar(column)} OR {matches(column, INFINITE)})"
    return None


def _interval(fraction: str, column: str) -> str:
    return (f"{matches(column, f'{SPANS % fraction}|{ISO_SPANS % fraction}')} "
            f"AND regexp_matches({column}, '[0-9]')")


def _exact_fraction(digits: int) -> str:
    return f"[0-9]{{1,{digits}}}0{{0,20}}" if digits else "0{1,20}"


def trimmed(text: str) -> str:
    """A text without the outer spaces that PostgreSQL ignores. Comparing is fast, and spares most texts the trim."""
    return f"CASE WHEN {text} < '!' OR right({text}, 1) < '!' THEN trim({text}, '{SPACE}') ELSE {text} END"


def as_written(duckdb_type: str, column: str) -> str:
    """The condition that a text is as DuckDB writes it as a value of a type."""
    return f"TRY_CAST({column} AS {duckdb_type})::VARCHAR = {column}"


def moment_as_written(name: str, column: str, digits: int = MICROSECONDS) -> str:
    """The condition that a text is a date or timestamp, with so many digits of seconds, as programs write it."""
    type_, shortest, longest = ("DATE", 10, 10) if name == "date" else ("TIMESTAMP", 19, 20 + digits if digits else 19)
    return (f"strlen({column}) BETWEEN {shortest} AND {longest} AND NOT contains({column}, '(') "
            f"AND {as_written(type_, column)}")


def matches(column: str, pattern: str) -> str:
    return f"regexp_full_match({column}, '{pattern}')"


def calendar(column: str) -> str:
    return f"{day_of(column)} >= DATE '0001-01-01'"


def day_of(column: str) -> str:
    """The date at the start of a text, or NULL."""
    digits = f"replace(regexp_extract({column}, '^[0-9/-]+'), '/', '-')"
    return rf"TRY_CAST(regexp_replace({digits}, '^(\d{{4}})(\d\d)(\d\d)$', '\1-\2-\3') AS DATE)"


def _held_date(name: str, digits: int, column: str) -> str:
    clock = f"([ T]{CLOCK % _exact_fraction(digits)}{ZONE if name == 'timestamp with time zone' else ''})?"
    shape = DAY + (MIDNIGHT if name == "date" else clock)
    held = f"({matches(column, shape)} AND {calendar(column)} OR {matches(column, INFINITE)})"
    if name == "timestamp with time zone":
        return held
    return f"CASE WHEN {moment_as_written(name, column, digits)} THEN true ELSE {held} END"


@dataclass(frozen=True)
class Decimal:
    """DuckDB's expressions for a decimal number.

    Attributes:
        digits: Its digits, without leading and trailing zeros.
        point: Position of the decimal point relative to the first of them.
    """

    digits: str
    point: str

    @classmethod
    def of(cls, column: str) -> Decimal:
        # No regular expressions: each column would compile its own.
        mantissa = f"split_part(lower({column}), 'e', 1)"
        part = f"split_part({mantissa}, '.', 2)"
        exponent = f"coalesce(TRY_CAST(ltrim(split_part(lower({column}), 'e', 2), '+') AS INTEGER), 0)"
        cut = f"ltrim(replace({mantissa}, '.', ''), '+-0')"
        return cls(f"rtrim({cut}, '0')", f"({exponent} + length({cut}) - length({part}))")


def _held_decimal(precision: int, scale: int, column: str) -> str:
    """No digit may be rounded away."""
    number, whole = Decimal.of(column), precision - scale
    # Fast path for usual spellings: the shape decides.
    slow = f"{number.digits} = '' OR {number.point} <= {whole} AND length({number.digits}) - {number.point} <= {scale}"
    cases = [f"WHEN {matches(column, NUMBER)} THEN {slow}", f"ELSE lower({column}) = 'nan'"]
    if 0 <= scale <= precision <= 1000:
        usual = matches(column, rf"[+-]?0*[0-9]{{0,{whole}}}(\.[0-9]{{0,{scale}}}0*)?")
        cases.insert(0, f"WHEN {usual} THEN ltrim({column}, '+-.') <> ''")
    if 0 <= scale <= precision <= DECIMAL_DIGITS:
        cases.insert(0, f"WHEN {as_written(f'DECIMAL({precision}, {scale})', column)} THEN true")
    return f"CASE {' '.join(cases)} END"


def _held_float(name: str, column: str) -> str:
    """A float holds a number that it prints again with as many digits: `real` holds 0.1, but not 16777217."""
    number, digits = Decimal.of(column), DIGITS[name]
    float_ = f"TRY_CAST({column} AS {'FLOAT' if name == 'real' else 'DOUBLE'})"
    value = f"abs({float_}::DOUBLE)"
    # Fast path for spellings that programs write: shortest, or with all digits.
    as_written = (f"{float_}::VARCHAR = {column} OR "
                  f"format('{{:.{digits + 2 + (name == 'real')}g}}', {float_}::DOUBLE) = {column}")
    given = f"format('{{:.' || greatest(length({number.digits}) - 1, 0) || 'e}}', {value})"
    same = (f"replace(split_part({given}, 'e', 1), '.', '') = {number.digits} AND "
            f"TRY_CAST(ltrim(split_part({given}, 'e', 2), '+') AS INTEGER) = {number.point} - 1")
    return (f"CASE WHEN strlen({column}) <= {digits} AND {matches(column, PLAIN)} THEN true "
            f"WHEN {as_written} THEN true WHEN strlen({column}) > 1000 THEN false "
            f"WHEN {matches(column, NUMBER)} THEN {number.digits} = '' "
            f"OR coalesce({value} > 0 AND isfinite({value}), false) AND {same} "
            f"ELSE {matches(column, NOT_FINITE)} END")


def _number(name: str, precision: int | None, scale: int, column: str) -> str:
    shaped = matches(column, NUMBER)
    if name in INTEGERS:
        number = f"TRY_CAST(ltrim({column}, '+') AS {name}) IS NOT NULL"
        slow = f"{matches(column, '[+-]?[0-9]{1,30}')} AND {number}"
        return f"CASE WHEN {as_written(name, column)} THEN true ELSE {slow} END"
    if name in FLOATS:
        in_range = f"abs(TRY_CAST({column} AS DOUBLE)) BETWEEN {FLOATS[name][0]} AND {FLOATS[name][1]}"
        return (f"({matches(column, NOT_FINITE)} OR {shaped} AND "
                f"({in_range} OR NOT regexp_matches({column}, '^[^eE]*[1-9]')))")
    if not precision:
        return f"strlen({column}) <= 1000 AND {shaped}"
    if 0 <= scale <= precision <= DECIMAL_DIGITS:
        return f"{shaped} AND TRY_CAST({column} AS DECIMAL({precision}, {scale})) IS NOT NULL"
    number, whole = Decimal.of(column), precision - scale
    # Nines may be rounded up to one digit more.
    return (f"strlen({column}) <= 1000 AND {shaped} AND ({number.digits} = '' OR {number.point} < {whole} "
            f"OR {number.point} = {whole} AND NOT starts_with({number.digits}, '{'9' * precision}'))")
