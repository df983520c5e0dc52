"""The data sets: shapes of tables, and how many rows of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LARGE = 10_000_000  # rows; from here on one round is enough, and only of tools that are fast
USUAL = 5_000_000  # rows from which on one round is enough of tools that are compared with, and are not the limit
CHUNK = 250_000  # rows that one statement makes; several run side by side
TABLES_AT_ONCE = 250


@dataclass(frozen=True)
class Shape:
    """SQL that makes a table: `create` it, `fill` it with rows `{first}` to `{last}`, put the `key` on it.

    Of many tables `table` is '', and `{first}` to `{last}` are numbers of tables. `heap`, `index` and `text` are bytes
    a row: in a table, in its key, as CSV.
    """

    table: str
    create: str
    fill: str
    key: str
    heap: int
    index: int
    text: int


# Shaped like TPC-H's lineitem: 16 columns, about 150 bytes a row as CSV.
LINEITEM = Shape(
    "lineitem",
    """CREATE TABLE lineitem (
    l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber integer NOT NULL,
    l_quantity numeric(15,2) NOT NULL, l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL,
    l_tax numeric(15,2) NOT NULL, l_returnflag character(1) NOT NULL, l_linestatus character(1) NOT NULL,
    l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL,
    l_shipinstruct character(25) NOT NULL, l_shipmode character(10) NOT NULL, l_comment character varying(44) NOT NULL
)""",
    """INSERT INTO lineitem
SELECT g / 4 + 1, g * 7919 % 200000, g * 104729 % 10000, g % 4 + 1, g % 50 + 1, (g * 37 % 10000000) / 100.0,
       g % 11 / 100.0, g % 9 / 100.0, substr('ANR', (g % 3 + 1)::int, 1), substr('OF', (g % 2 + 1)::int, 1),
       date '1992-01-01' + (g % 2500)::int, date '1992-01-31' + (g % 2500)::int, date '1992-02-15' + (g % 2500)::int,
       (ARRAY['DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN'])[(g % 4 + 1)::int],
       (ARRAY['TRUCK', 'MAIL', 'REG AIR', 'SHIP', 'FOB'])[(g % 5 + 1)::int],
       'final requests about ' || substr(md5(g::text), 1, (g % 23)::int)
FROM generate_series({first}::bigint - 1, {last} - 1) g""",
    "ALTER TABLE lineitem ADD CONSTRAINT lineitem_pkey PRIMARY KEY (l_orderkey, l_linenumber)",
    171, 32, 152,
)
# 20 columns; text of 100 to 300 KB and bytea of half of that in each row, and of 8 and 4 MB in every 200th.
WIDE = Shape(
    "wide",
    "CREATE TABLE wide (id bigint NOT NULL, "
    + ", ".join(f"c{number} {('integer', 'text', 'numeric')[number % 3]}" for number in range(17))
    + ", body text, picture bytea)",
    "INSERT INTO wide SELECT g, "
    + ", ".join(("g", "'some words ' || g", "g / 7.0")[number % 3] for number in range(17))
    + ", repeat(md5(g::text), size), decode(repeat(md5((-g)::text), size), 'hex') "
    "FROM (SELECT g, CASE WHEN g % 200 = 0 THEN 250000 ELSE 3125 + g * 37 % 6250 END AS size "
    "FROM generate_series({first}, {last}) g) sizes",
    "ALTER TABLE wide ADD CONSTRAINT wide_pkey PRIMARY KEY (id)",
    10_000, 40, 500_000,  # compressed in the table, hex digits as CSV
)
# Many tables with ten rows each.
SMALL = Shape(
    "",
    "",
    "DO $$ BEGIN FOR n IN {first}..{last} LOOP "
    "EXECUTE format('CREATE TABLE small_%1$s (id integer PRIMARY KEY, name text, amount numeric(12,2), "
    "at timestamptz)', lpad(n::text, 5, '0')); "
    "EXECUTE format('INSERT INTO small_%1$s SELECT g, ''name '' || g, g / 4.0, timestamptz ''2024-01-20 00:00+00'' "
    "+ g * interval ''1 minute'' FROM generate_series(1, 10) g', lpad(n::text, 5, '0')); END LOOP; END $$",
    "",
    2_400, 1_600, 400,  # pages that are nearly empty, and the catalog
)
# A thousandth of the rows breaks one of eight rules of a contract: csv_files.py.
SALES = Shape(
    "sales",
    "CREATE TABLE sales (transaction_id text, customer_id text, product_id text, store_id text, quantity text, "
    "unit_price text, discount text, total_amount text, payment_method text, timestamp text)",
    """INSERT INTO sales
SELECT 'TX-' || md5(g::text),
       CASE way WHEN 1 THEN NULL WHEN 2 THEN 'CUST-1' ELSE 'CUST-' || lpad((g % 999)::text, 3, '0') END,
       'P' || g % 500, 'S' || lpad((g % 99)::text, 2, '0'),
       CASE way WHEN 3 THEN 'two' WHEN 4 THEN '0' ELSE quantity::text END,
       CASE way WHEN 5 THEN '-0.01' ELSE price::text END, CASE way WHEN 6 THEN '0.2' ELSE discount::text END,
       CASE WHEN way = 7 THEN '1' WHEN g % 5 > 0 THEN (quantity * price * (1 - coalesce(discount, 0)))::text END,
       CASE way WHEN 8 THEN 'cheque' ELSE (ARRAY['card', ' Cash ', 'CARD'])[(g % 3 + 1)::integer] END,
       (timestamp '2024-01-01' + g * interval '1 second')::text
FROM (SELECT g, g % 99 + 1 AS quantity, round((g * 7919 % 99999 + 1) / 100.0, 2) AS price,
             (ARRAY[NULL, 0.05, 0.1, 0.15])[(g % 4 + 1)::integer] AS discount,
             CASE WHEN g % 1000 = 0 THEN (g / 1000 % 8 + 1)::integer ELSE 0 END AS way
      FROM generate_series({first}::bigint, {last}) g) sales""",
    "",
    140, 0, 101,
)


@dataclass(frozen=True)
class Data:
    """A data set: so many rows of a shape, in a source database of its own."""

    name: str
    rows: int
    shape: Shape = LINEITEM
    tables: int = 1

    def database(self, key: bool = True) -> str:
        """Where it is: with its key, or without."""
        return self.name if key or not self.shape.key else f"{self.name}_nokey"

    def fills(self) -> Iterator[str]:
        """The statements that fill it, in any order."""
        total, step = (self.rows, CHUNK) if self.shape.table else (self.tables, TABLES_AT_ONCE)
        for first in range(1, total + 1, step):
            yield self.shape.fill.format(first=first, last=min(first + step - 1, total))


EMPTY = Data("empty", 0)
SAMPLE = Data("sample", 50_000)
WIDE_DATA = Data("wide", 600, WIDE)


def lineitems(rows: int) -> Data:
    return Data(f"lineitem_{rows}", rows)


def sales(rows: int) -> Data:
    return Data("sales", rows, SALES)


def small(tables: int) -> Data:
    """Many tables with ten rows each."""
    return Data("small" if tables == 1_000 else f"small_{tables}", tables * 10, SMALL, tables)
