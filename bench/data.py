"""The server and its data: one source database for each data set, and a target that is made anew for each load."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "demo"))

from servers import Server, find_binaries  # noqa: E402

TARGET = "target"
# Autovacuum would take a core from whoever comes next.
SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "autovacuum": "off"}


@dataclass(frozen=True)
class Shape:
    """SQL that makes a table: `create` it, `fill` it (`{rows}`), put the `key` on it. Of many tables, `table` is ''."""

    table: str
    create: str
    fill: str
    key: str


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
FROM generate_series(0::bigint, {rows} - 1) g""",
    "ALTER TABLE lineitem ADD CONSTRAINT lineitem_pkey PRIMARY KEY (l_orderkey, l_linenumber)",
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
    "FROM generate_series(1, {rows}) g) sizes",
    "ALTER TABLE wide ADD CONSTRAINT wide_pkey PRIMARY KEY (id)",
)
# A thousand tables with `rows` rows in all.
SMALL = Shape(
    "",
    "DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('CREATE TABLE small_%s (id integer PRIMARY KEY, name text, "
    "amount numeric(12,2), at timestamptz)', lpad(n::text, 4, '0')); END LOOP; END $$",
    "DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('INSERT INTO small_%s SELECT g, ''name '' || g, g / 4.0, "
    "timestamptz ''2024-01-20 00:00+00'' + g * interval ''1 minute'' FROM generate_series(1, {rows} / 1000) g', "
    "lpad(n::text, 4, '0')); END LOOP; END $$",
    "",
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
      FROM generate_series(1::bigint, {rows}) g) sales""",
    "",
)


@dataclass(frozen=True)
class Data:
    """A data set: so many rows of a shape, in a source database of its own."""

    name: str
    rows: int
    shape: Shape = LINEITEM

    def database(self, key: bool = True) -> str:
        """Where it is: with its key, or without."""
        return self.name if key or not self.shape.key else f"{self.name}_nokey"


EMPTY = Data("empty", 0)
SAMPLE = Data("sample", 50_000)
WIDE_DATA = Data("wide", 600, WIDE)
SMALL_DATA = Data("small", 10_000, SMALL)
SALES_DATA = Data("sales", 1_000_000, SALES)
OTHER_SHAPES = (WIDE_DATA, SMALL_DATA, SALES_DATA)


def lineitems(rows: int) -> Data:
    return Data(f"lineitem_{rows}", rows)


class Databases:
    """A PostgreSQL server below `folder`, with the data sets in it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.server = Server(folder, SETTINGS)
        self.server.start()
        self.binaries = find_binaries()
        self.pid = int((self.server.data / "postmaster.pid").read_text().split()[0])

    def remove(self) -> None:
        self.server.remove()

    def sql(self, database: str, *statements: str) -> list[tuple]:
        """Run statements, each in a transaction of its own; the rows of the last."""
        with contextlib.closing(self.server.connect(database)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def make(self, data: Data) -> None:
        """The source with its key, and where it has one a copy without."""
        shape = data.shape
        self.server.create_database(data.name)
        statements = [shape.create, shape.fill.format(rows=data.rows), shape.key, "VACUUM (FREEZE, ANALYZE)"]
        self.sql(data.name, *filter(None, statements))
        if shape.key:
            self.sql("postgres", f"CREATE DATABASE {data.database(key=False)} TEMPLATE {data.name} STRATEGY file_copy")
            self.sql(data.database(key=False), f"ALTER TABLE {shape.table} DROP CONSTRAINT {shape.table}_pkey")

    def fresh_target(self, data: Data | None = None) -> None:
        """An empty target database; with the table of `data`, where those who load want it there."""
        self.sql("postgres", f"DROP DATABASE IF EXISTS {TARGET} WITH (FORCE)", f"CREATE DATABASE {TARGET}")
        if data:
            self.sql(TARGET, data.shape.create)

    def count(self, database: str, table: str) -> int:
        """How many rows a table has."""
        [(rows,)] = self.sql(database, f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names
        return rows

    def header(self, database: str, table: str) -> str:
        """Names of a table's columns, with commas between."""
        rows = self.sql(database, f"SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass "  # noqa: S608
                                  "AND attnum > 0 ORDER BY attnum")
        return ",".join(name for (name,) in rows)

    def pages(self, database: str, table: str) -> int:
        """How many pages of 8 KiB a table has."""
        [(pages,)] = self.sql(database, f"SELECT pg_relation_size('{table}') / 8192")
        return pages

    def target_size(self) -> int:
        """Bytes that the target takes beyond an empty database."""
        [(taken,)] = self.sql("postgres", f"SELECT pg_database_size('{TARGET}') - pg_database_size('template1')")
        return taken

    def settle(self) -> None:
        """Nobody pays for what the one before left to be written."""
        self.sql("postgres", "CHECKPOINT")

    def variables(self, database: str) -> dict[str, str]:
        """How libpq finds a database."""
        server = self.server
        return {"PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user,
                "PGPASSWORD": server.password, "PGDATABASE": database, "PGSSLMODE": "disable"}

    def url(self, database: str) -> str:
        """The same, for those who take no variables."""
        server = self.server
        return f"postgresql://{server.user}:{server.password}@{server.host}:{server.port}/{database}"
