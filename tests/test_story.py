"""Five days of a company, told as they happen: two databases with equal tables, a CSV file, a colleague's view.

Each day the columns of something change; on the third the second database is added. Whatever happened, every date holds
what its sources held on that day, and the product's own verification and comparison say so.
"""

import json
import re

import pytest
from conftest import ROLES

DAYS = MON, TUE, WED, THU, FRI = [f"2024-01-{day}" for day in range(22, 27)]
CRM = """
- name: tap-crm
  inherit_from: tap-postgres
  config: {database: %s}
"""


class Company:
    """A project, its two databases and what they held on each day."""

    def __init__(self, project, crm):
        self.project, self.shop, self.crm = project, project.source, crm
        self.warehouse = project.warehouse
        self.sources = ["postgres", "csv"]
        self.held = {}  # rows as text, by (source, table) and day
        self.edit("keys: [order_id, product_id]", "keys: [id]", "order_details", "lines")

    def edit(self, *pairs):
        """Edit meltano.yml."""
        path = self.project.folder / "meltano.yml"
        text = path.read_text()
        for old, new in zip(pairs[::2], pairs[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)

    def lines(self, text):
        """Write the CSV file."""
        self.project.csv("lines.csv", text)

    def add_crm(self):
        self.edit("jobs:\n", "jobs:\n- name: extract_crm\n  tasks: [tap-crm target-csv]\n",
                  "  loaders:\n", CRM.replace("\n", "\n  ").rstrip() % self.crm.name + "\n  loaders:\n",
                  "      database: $TARGET_POSTGRES_DB\n",
                  "      database: $TARGET_POSTGRES_DB\n      table_names: {crm: \"crm.{table}\"}\n")
        self.sources.append("crm")

    def extract(self, day):
        """Land all sources of the day, and note what the databases hold."""
        self.project.meltano("run", *(f"extract_{source}" for source in self.sources),
                             MELTANO_ENVIRONMENT="extract", DATESTAMP=day)
        for source, database in (("postgres", self.shop), ("crm", self.crm))[:len(self.sources) - 1]:
            for name, in database.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
                self.held[source, name, day] = rows(database, f"SELECT to_jsonb(t) FROM public.{name} t")

    def load(self, day, **how):
        """By the same plugins as `meltano run load_to_postgres`, without Meltano around them."""
        names = {"crm": "crm.{table}"} if "crm" in self.sources else {}
        return self.project.pipe(self.project.tap_landed(), self.project.target_postgres(table_names=names),
                                 EXTRACTED_AT=day, **how)

    def verify(self, day):
        """Lines of `landing verify`, as (source, table); each says that source, files and warehouse are equal."""
        found = json.loads(self.project.landing("verify", day, "--json").stdout)
        return {(one["source"], one["table"]) for one in found}

    def diff(self, before, after):
        """Rows inserted, updated and deleted, by table in the warehouse."""
        found = json.loads(self.project.landing("diff", before, after, "--json").stdout)
        return {one["table"]: (one["inserted"], one["updated"], one["deleted"]) for one in found}

    def shown(self, table):
        """Rows of a view of the newest date."""
        return rows(self.warehouse, f"SELECT to_jsonb(t) FROM {table} t")

    def history(self, source, table, day):
        """Rows of a day, without the columns that the table had on other days only."""
        schema = "crm_history" if source == "crm" else "public_history"
        return rows(self.warehouse, f"SELECT jsonb_strip_nulls(to_jsonb(t) - 'extracted_at') FROM {schema}.{table} t "
                                    f"WHERE extracted_at = '{day}'")


def rows(database, query):
    return sorted((row for row, in database.run(query)), key=json.dumps)


def without_nulls(found):
    return sorted(({name: value for name, value in row.items() if value is not None} for row in found), key=json.dumps)


@pytest.fixture
def company(project, make_database):
    project.warehouse.let_in_as(*ROLES["warehouse"])  # as the documentation recommends
    project.warehouse.run(f"GRANT CREATE ON DATABASE {project.warehouse.name} TO {project.warehouse.user}")
    (env := project.folder / ".env").write_text(env.read_text().replace(
        "TARGET_POSTGRES_USER=tester", f"TARGET_POSTGRES_USER={project.warehouse.user}"))
    yield Company(project, make_database("crm"))
    project.warehouse.run("DROP SCHEMA IF EXISTS reports CASCADE; DROP OWNED BY ann; DROP ROLE ann")


def test_five_days_of_two_databases_a_file_and_a_colleague_are_each_what_they_were(company):
    # Monday: the shop and a file. Ann builds a report on what she finds in the warehouse.
    company.shop.run("CREATE TABLE orders (id integer PRIMARY KEY, customer integer, price integer, note text);"
                     "INSERT INTO orders SELECT g, g % 3, g * 10, 'n' || g FROM generate_series(1, 9) g;"
                     "CREATE TABLE customers (id integer PRIMARY KEY, name text, phone text);"
                     "INSERT INTO customers VALUES (0, 'Ada', '007'), (1, 'Bob', NULL), (2, '', '1')")
    company.lines("id,article,amount\n1,007,2\n2,008,1\n")
    company.extract(MON)
    company.load(MON)
    assert company.verify(MON) == {("postgres", "orders"), ("postgres", "customers"), ("csv", "lines")}
    company.warehouse.run(
        "CREATE ROLE ann; CREATE SCHEMA reports AUTHORIZATION ann; GRANT SELECT ON orders, customers TO ann;"
        "SET ROLE ann; CREATE VIEW reports.sold AS SELECT customer, count(*) AS orders FROM orders GROUP BY customer;"
        "CREATE MATERIALIZED VIEW reports.names AS SELECT id, name FROM customers; RESET ROLE")

    # Tuesday: prices get cents, an order goes, the file's columns change places. Ann's report uses none of that.
    company.shop.run("ALTER TABLE orders ALTER price TYPE numeric(10,2); UPDATE orders SET price = 10.5 WHERE id = 1;"
                     "DELETE FROM orders WHERE id = 9")
    company.lines("article,amount,id\n007,2,1\n008,5,2\n")
    company.extract(TUE)
    company.load(TUE)
    # 10 is 10.00 from now on.
    assert company.diff(MON, TUE) == {"orders": (0, 8, 1), "customers": (0, 0, 0), "lines": (0, 1, 0)}
    assert company.warehouse.run("SELECT sum(orders) FROM reports.sold") == [(8,)]

    # Wednesday: the second database, with the same names. A column of the shop gets another name.
    company.crm.run("CREATE TABLE orders (id smallint PRIMARY KEY, state text);"
                    "INSERT INTO orders VALUES (1, 'open'), (2, 'open');"
                    "CREATE TABLE customers (id integer PRIMARY KEY, mail text);"
                    "INSERT INTO customers VALUES (7, 'a@b')")
    company.add_crm()
    company.shop.run("ALTER TABLE customers RENAME phone TO mobile")
    company.extract(WED)
    company.project.meltano("run", "load_to_postgres", MELTANO_ENVIRONMENT="load", EXTRACTED_AT=WED)
    assert ("crm", "crm.orders") in company.verify(WED)
    assert company.shown("public.orders") == company.held["postgres", "orders", WED]
    assert company.shown("crm.orders") == company.held["crm", "orders", WED]

    # Thursday: the key of the second database widens and its columns turn; the load is killed, and repeated.
    company.crm.run("ALTER TABLE orders ALTER id TYPE bigint, ADD closed date;"
                    "INSERT INTO orders VALUES (3000000000, NULL);"
                    "CREATE TABLE turned (mail text, id integer PRIMARY KEY); INSERT INTO turned SELECT mail, id FROM "
                    "customers; DROP TABLE customers; ALTER TABLE turned RENAME TO customers")
    company.lines("id,article,amount,discount\n1,007,2,0.15\n2,ABC,5,\n")
    company.extract(THU)
    log = company.project.folder / "fired"
    fault = json.dumps({"in": "landing-target-postgres", "log": str(log), "at": 40, "kill": "self"})
    assert company.load(THU, check=False, FAULT=fault).returncode
    assert log.exists()
    assert company.shown("crm.orders") == company.held["crm", "orders", WED]
    company.load(THU)
    assert company.diff(WED, THU)["crm.orders"] == (1, 0, 0)

    # Friday: the shop drops a column that Ann's report uses. That is said before anything is copied.
    company.shop.run("ALTER TABLE orders DROP customer")
    company.extract(FRI)
    refused = company.load(FRI, check=False)
    assert refused.returncode
    assert "view reports.sold of role ann uses customer (gone) of public.orders" in refused.text
    assert company.shown("public.orders") == company.held["postgres", "orders", THU]
    company.warehouse.run(re.search("`(DROP VIEW [^`]*)`", refused.text)[1])
    company.load(FRI)

    # Every day is what it was, also after all of them are loaded again, the newest first.
    for day in reversed(DAYS):
        company.load(day, RELOAD="true")
    for (source, table, day), held in company.held.items():
        assert company.history(source, table, day) == without_nulls(held), (source, table, day)
    shop, crm = {("postgres", "orders"), ("postgres", "customers"), ("csv", "lines")}, {("crm", "crm.orders"),
                                                                                       ("crm", "crm.customers")}
    assert [company.verify(day) for day in DAYS] == [shop, shop, *[shop | crm] * 3]
    assert company.shown("public.orders") == company.held["postgres", "orders", FRI]
    assert company.warehouse.run("SELECT count(*) FROM reports.names") == [(3,)]
    assert company.diff(MON, FRI)["orders"] == (0, 8, 1)
