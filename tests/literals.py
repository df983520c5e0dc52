"""Literals for every type that PostgreSQL brings: its extremes, and what hypothesis makes of it.

A strategy may give what a server refuses: that is sorted out by asking it.
"""

import ipaddress
import json

from hypothesis import strategies as st

NOBODY_WRITES_ONE = "it has no input: only views on PostgreSQL's own catalogs have columns of it"
EXCEPTIONS = {
    "gtsvector": "it is what is inside GiST indexes: it has no input",
    "pg_node_tree": NOBODY_WRITES_ONE,
    "pg_ndistinct": NOBODY_WRITES_ONE,
    "pg_dependencies": NOBODY_WRITES_ONE,
    "pg_mcv_list": NOBODY_WRITES_ONE,
    "pg_brin_bloom_summary": NOBODY_WRITES_ONE,
    "pg_brin_minmax_multi_summary": NOBODY_WRITES_ONE,
}

NASTY = ['"', "'", ",", ";", "\\", "\\.", "\\N", "\n", "\r", "\r\n", "\t", "\n\\.\n", "NULL", "null", "{", "}",
         "(", ")", " ", "\u202e", "\ufeff", "\u2028", "\x85", "\x01", "\x7f", "é", "e\u0301",
         "😀", "漢", "<", "&", "$", "%", "x"]
text = st.one_of(
    st.lists(st.sampled_from(NASTY), max_size=6).map("".join),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
)
TEXTS = ["", " ", "\\.", "\\N", "NULL", '"', '""', "'", "\\", "\n", "\r", "\r\n", ",", "a\n\\.\nb", "\n\\.", "x" * 9000]


def integers(bits, low=None):
    top = 2 ** (bits - 1) if low is None else 2**bits
    low = -top if low is None else low
    return [str(low), str(top - 1), "0"], st.integers(low, top - 1).map(str)


def joined(separator, strategy, **sizes):
    return st.lists(strategy, **sizes).map(separator.join)


def quoted(value, mark):
    """As an element of a range or a lexeme is quoted."""
    return mark + value.replace("\\", "\\\\").replace(mark, mark * 2) + mark


digits = st.text("0123456789", min_size=1, max_size=40)
decimal = st.builds("{}{}.{}".format, st.sampled_from(["", "-"]), digits, digits)
numeric = st.one_of(decimal, decimal.map(lambda text: text + "0" * 30),
                    st.builds("{}e{}".format, digits, st.integers(-1000, 1000)))
NUMERICS = ["NaN", "Infinity", "-Infinity", "0", "-0.000", "100e-2", "1e131071", "1e-16383",
            "9" * 999 + "." + "9" * 999]
FLOATS = ["NaN", "Infinity", "-Infinity", "-0", "0.1", "1e16"]
double = st.floats().map(repr)

date = st.one_of(st.dates().map(str), st.builds("{:04}-{:02}-{:02} BC".format, st.integers(1, 4700), st.integers(1, 12),
                                                st.integers(1, 28)))
DATES = ["infinity", "-infinity", "4714-11-24 BC", "0001-12-31 BC", "5874897-12-31", "1900-02-28", "0044-02-29 BC"]
clock = st.times().map(str)
zone = st.builds("{}{:02}:{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 15), st.integers(0, 59),
                 st.integers(0, 59))
stamp = st.one_of(st.datetimes().map(str), st.builds("{:04}-03-04 {} BC".format, st.integers(1, 4700), clock))
STAMPS = ["infinity", "-infinity", "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999", "2016-12-31 23:59:60",
          "0001-01-01 00:00:00 BC"]
span = st.builds("{} years {} mons {} days {}:{:02}:{:02}.{:06}".format, *[st.integers(-9999, 9999)] * 3,
                 st.integers(-99999, 99999), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999999))
SPANS = ["infinity", "-infinity", "0", "1 mon -1 day", "-1 mon 1 day -00:00:00.000001", "-0.1 sec", "1.5 years",
         # One microsecond more is infinity since 17.
         "178956970 years 7 mons 2147483647 days 2562047788:00:54.775806",
         "-178956970 years -8 mons -2147483648 days -2562047788:00:54.775807", "P1Y2M3DT4H5M6.789S"]

point = st.builds("({},{})".format, double, double)
POINTS = ["(0,-0)", "(NaN,Infinity)", "(0.1,1e300)", "(-Infinity,1e-320)"]
address = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
network = st.builds(lambda ip, bits: str(ipaddress.ip_network((ip, bits % (ip.max_prefixlen + 1)), strict=False)),
                    address, st.integers(0, 255))
interface = st.builds(lambda ip, bits: f"{ip}/{bits % (ip.max_prefixlen + 1)}", address, st.integers(0, 255))


def mac(count):
    return st.binary(min_size=count, max_size=count).map(lambda octets: octets.hex(":"))


def bits(low, high):
    return st.text("01", min_size=low, max_size=high)


number = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
value = st.recursive(st.none() | st.booleans() | number | text,
                     lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=8)
document = st.builds(lambda value, space, ascii_: json.dumps(value, ensure_ascii=ascii_, separators=space), value,
                     st.sampled_from([(",", ":"), (" ,  ", "\t:\n"), (", ", ": ")]), st.booleans())
DOCUMENTS = ["null", '""', "{}", "[]", ' {"b" : 1, "a":[1, null,"x,y"] ,\n"b":2.50 } ', "1e400", "-0.0", '"\\u00e9\\n"',
             "[1.0, 1, 1e0, 100000000000000000000000000000000000000.10]", '"' + '\\"' * 50 + '"']
accessor = st.one_of(text.map(lambda name: "." + json.dumps(name)),
                     st.sampled_from(["[*]", "[0 to last]", ".*", ".**{2 to 5}", ".size()", "[-1, 2]"]))
path = st.builds("{} ${}{}".format, st.sampled_from(["strict", "lax"]), joined("", accessor, max_size=4),
                 st.sampled_from(["", " ? (@.a > 1.50 && exists (@.b))", ' ? (@ like_regex "^a\\"b" flag "iq")',
                                  " ? (@.x == $y || !(@ starts with \"z\"))", " + 1", ".type()"]))

lexeme = text.filter(bool).map(lambda word: quoted(word, "'"))
position = st.builds("{}{}".format, st.integers(1, 16383), st.sampled_from(["", "A", "B", "C"]))
positions = st.one_of(st.just(""), joined(",", position, min_size=1, max_size=3).map(":{}".format))
vector = joined(" ", st.builds("{}{}".format, lexeme, positions), max_size=5)
search = st.recursive(
    st.builds("{}{}".format, lexeme, st.sampled_from(["", ":*", ":AB", ":*CD"])),
    lambda inner: st.one_of(inner.map("!({})".format), st.builds(
        "({} {} {})".format, inner, st.sampled_from(["&", "|", "<->", "<0>", "<16384>"]), inner)), max_leaves=6)

markup = text.map(lambda value: "".join(f"&#{ord(c)};" if c in "<&\r" else c for c in value
                                        if c in "\t\n\r" or c >= " "))
xml = st.builds("{}<a b='x'>{}<!-- c --></a>{}".format, st.sampled_from(["", "\n", "\n\n", "text\n"]), markup,
                st.sampled_from(["", "\n", "<b/>"]))
XMLS = ["", "<a/>", "\n\n<a/>", '<?xml version="1.0"?><a/>', '<?xml version="1.0" encoding="UTF-8"?>\n\n<é/>',
        '<?xml version="1.1" standalone="yes"?><a/>', "just text", "<a><![CDATA[<&]]></a>"]

number_pair = st.lists(st.integers(-(2**31), 2**31 - 2), min_size=2, max_size=2, unique=True).map(sorted)
day_pair = st.lists(st.dates(), min_size=2, max_size=2, unique=True).map(sorted)
stamp_pair = st.lists(st.datetimes(), min_size=2, max_size=2, unique=True).map(sorted)
RANGES = ["empty", "(,)"]


def ranges(pair):
    """Of one pair of bounds, any of which may be missing."""
    return st.builds(lambda bounds, ends, open_: "{}{},{}{}".format(
        ends[0], *("" if missing else f'"{bound}"' for bound, missing in zip(bounds, open_, strict=True)), ends[1]),
        pair, st.sampled_from(["[]", "[)", "(]", "()"]), st.tuples(st.booleans(), st.booleans()))


def multiranges(pair):
    return ["{}", "{(,)}", "{empty}"], joined(",", ranges(pair), max_size=4).map("{{{}}}".format)


def names(*values):
    """Of objects that every database has."""
    return [*values], st.sampled_from(values)


# By name in pg_type: what has to be there, and a strategy.
TYPES = {
    "bool": (["t", "f"], st.sampled_from(["yes", "off"])),
    "bytea": (["", "\\x" + bytes(range(256)).hex()], st.binary(max_size=60).map(lambda data: "\\x" + data.hex())),
    "char": (["", "a", '"', "\\", "\n", ",", "\\001", "\\377", " "], st.characters(max_codepoint=127, min_codepoint=1)),
    "name": ([*TEXTS[:-1], "é" * 40], text),
    "int2": integers(16), "int4": integers(32), "int8": integers(64),
    "text": (TEXTS, text), "varchar": (TEXTS, text), "bpchar": ([*TEXTS, "a  "], text), "refcursor": (TEXTS, text),
    "oid": integers(32, low=0), "xid": integers(32, low=0), "cid": integers(32, low=0), "xid8": integers(64, low=0),
    "tid": (["(0,0)", "(4294967295,65535)"], st.builds("({},{})".format, st.integers(0, 2**32 - 1),
                                                       st.integers(0, 65535))),
    "int2vector": (["", "1 2 3"], joined(" ", st.integers(-32768, 32767).map(str), max_size=9)),
    "oidvector": (["", "1 2 3"], joined(" ", st.integers(0, 2**32 - 1).map(str), max_size=9)),
    "json": (DOCUMENTS, document), "jsonb": (DOCUMENTS, document),
    "jsonpath": (["$", "strict $", '$."a b"."\\"c"', "$.a[*] ? (@.b > -1.5).c", "-($.a + 2)"], path),
    "xml": (XMLS, xml),
    "point": (POINTS, point),
    "lseg": (["[(0,0),(1,NaN)]"], st.builds("[{},{}]".format, point, point)),
    "path": (["((0,0))", "[(0,0),(1e-300,1)]"], joined(",", point, min_size=1, max_size=4).map("[{}]".format)),
    "box": (["(1,1),(0,0)"], st.builds("{},{}".format, point, point)),
    "polygon": (["((0,0))"], joined(",", point, min_size=1, max_size=4).map("({})".format)),
    "line": (["{1,-1,0}", "{0,0.1,NaN}", "[(0,0),(3,1)]"], st.builds("{{{},{},{}}}".format, double, double, double)),
    "circle": (["<(0,0),0>", "<(1,2),Infinity>"], st.builds("<{},{}>".format, point, st.floats(min_value=0).map(repr))),
    "float4": ([*FLOATS, "3.4028235e+38", "1e-45", "1.17549435e-38"], st.floats(width=32).map(repr)),
    "float8": ([*FLOATS, "1.7976931348623157e+308", "5e-324", "2.2250738585072014e-308"], double),
    "numeric": (NUMERICS, numeric),
    "money": (["-92233720368547758.08", "92233720368547758.07", "0", "-0.01"],
              st.integers(-(2**63), 2**63 - 1).map(lambda n: f"{'-' * (n < 0)}{abs(n) // 100}.{abs(n) % 100:02}")),
    "macaddr": (["00:00:00:00:00:00"], mac(6)), "macaddr8": (["ff:ff:ff:ff:ff:ff:ff:ff"], mac(8)),
    "inet": (["0.0.0.0/0", "::1", "::ffff:1.2.3.4/128", "192.168.0.1/24"], interface),
    "cidr": (["0.0.0.0/0", "::/0", "10.0.0.0/8"], network),
    "date": (DATES, date), "time": (["00:00:00", "24:00:00", "23:59:59.999999"], clock),
    "timetz": (["24:00:00-15:59:59", "00:00:00+15:59:59", "12:00:00.5+05:30"], st.builds("{}{}".format, clock, zone)),
    "timestamp": (STAMPS, stamp),
    "timestamptz": (STAMPS, st.builds("{}{}".format, st.datetimes().map(str), zone) | stamp),
    "interval": (SPANS, span),
    "bit": (["", "1", "0" * 100], bits(0, 40)), "varbit": (["", "1", "0" * 100], bits(0, 40)),
    "uuid": (["00000000-0000-0000-0000-000000000000"], st.uuids().map(str)),
    "pg_lsn": (["0/0", "FFFFFFFF/FFFFFFFF"], st.builds("{:X}/{:X}".format, *[st.integers(0, 2**32 - 1)] * 2)),
    "pg_snapshot": (["1:1:", "10:20:10,14,15"], st.integers(1, 2**60).map(lambda n: f"{n}:{n + 9}:{n},{n + 3}")),
    "txid_snapshot": (["1:1:", "10:20:10,14,15"], st.integers(1, 2**60).map(lambda n: f"{n}:{n + 9}:{n},{n + 3}")),
    "tsvector": (["", "a:1 cat:2A 'it''s'", "'\\\\':16383D", "' '"], vector),
    "tsquery": (["", "cat & !dog", "'a b':*AC <-> '''q'''", "!!a"], search),
    "aclitem": names("=r/tester", "tester=arwdDxt/tester", "tester=a*/tester"),
    "regclass": names("pg_class", "-"), "regcollation": names('"C"', "-"), "regconfig": names("english"),
    "regdictionary": names("simple"), "regnamespace": names("pg_catalog", "-"), "regoper": names("||/", "0"),
    "regoperator": names("+(integer,integer)"), "regproc": names("pg_backend_pid", "-"),
    "regprocedure": names("abs(numeric)"), "regrole": names("tester", "-"), "regtype": names("integer[]", "-"),
    "int4range": (RANGES, ranges(number_pair)), "int8range": (RANGES, ranges(number_pair)),
    "numrange": (RANGES, ranges(number_pair)), "daterange": (RANGES, ranges(day_pair)),
    "tsrange": ([*RANGES, '[-infinity,"0044-03-15 12:00:00 BC"]'], ranges(stamp_pair)),
    "tstzrange": ([*RANGES, "[2024-01-01,infinity)"], ranges(stamp_pair)),
    "int4multirange": multiranges(number_pair), "int8multirange": multiranges(number_pair),
    "nummultirange": multiranges(number_pair), "datemultirange": multiranges(day_pair),
    "tsmultirange": multiranges(stamp_pair), "tstzmultirange": multiranges(stamp_pair),
}

# Types with modifiers, as SQL.
MODIFIED = {
    "numeric(10,2)": (["NaN", "99999999.99", "-0.005"], st.integers(-(10**9), 10**9).map(lambda n: str(n / 100))),
    "numeric(3,-5)": (["NaN", "99900000"], st.integers(-(10**7), 10**7).map(str)),
    "numeric(3,6)": (["0.000999"], st.integers(-999, 999).map(lambda n: f"{n / 10**6:.6f}")),
    "character varying(5)": (["", "é😀漢xx"], text), "character(5)": (["", " a", "a "], text), '"char"': (["a"], text),
    "bit(5)": (["10101"], bits(5, 5)), "bit varying(7)": (["", "1010101"], bits(0, 7)),
    "time(0) without time zone": (["24:00:00"], clock), "timestamp(2) without time zone": (STAMPS, stamp),
    "timestamp(3) with time zone": (STAMPS, stamp), "time(1) with time zone": (["24:00:00+01"], clock),
    "interval(2)": (SPANS, span), "interval year to month": (SPANS, span), "interval day to second(3)": (SPANS, span),
}
