"""What colleagues build on <schema>.<table> does not stop a load, or is named before it with the statements to run.

Loads run as the recommended role, which is no member of the colleagues' roles.
"""

import contextlib
import json
import logging
import re
from datetime import date

import pytest
from conftest import ROLES, ROOT
from dates import Dates
from landing.core.errors import RefusedError, WarehouseError
from landing.load import locks, planned_changes
from landing.load.warehouse import Warehouse
from psycopg2.errors import InsufficientPrivilege

D1, D2, D3, D4, D5 = (f"2024-01-2{day}" for day in range(5))
ABC = {"a": "integer", "b": "integer", "c": "text"}
ROW = [["1", "2", "x"]]
BUILD = """
CREATE ROLE ann; CREATE ROLE bob;
CREATE SCHEMA lab; GRANT ALL ON SCHEMA lab TO ann, bob;
"""


class Shared:
    """A warehouse that a loader and its colleagues ann and bob share."""

    def __init__(self, dates):
        self.dates, self.run, self.one, self.load = dates, dates.run, dates.one, dates.load

    def land(self, day, columns, rows, *key, **more):
        self.dates.land(day, orders=(columns, rows, *key), **more)

    def day(self, day, columns, rows, *key, **more):
        self.land(day, columns, rows, *key, **more)
        self.load(day)

    def build(self, statement, role="ann"):
        self.run(f"SET ROLE {role}; {statement}; RESET ROLE")

    def read(self, relation, role="ann", what="*"):
        with contextlib.closing(self.dates.project.warehouse.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"SET ROLE {role}; SELECT {what} FROM {relation}")
            return cursor.fetchall()

    def kept(self):
        """Columns and comments of the views that keep older columns."""
        return dict(self.run(
            "SELECT relname, (SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY "
            "attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0) FROM pg_class c "
            "WHERE relkind = 'v' AND relnamespace = 'public_history'::regnamespace"))

    def shown(self, schema="public"):
        return [row[0] for row in self.run(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
            f"{schema}.orders")]

    def refused(self, day):
        """The message; nothing of the date was loaded, nor copied."""
        before = self.state()
        with pytest.raises(RefusedError) as raised:
            self.load(day)
        assert self.state() == before
        return str(raised.value)

    def state(self):
        return self.run("SELECT * FROM public_history._loads ORDER BY 1, 2, 3"), self.run(
            "SELECT relname, relkind FROM pg_class WHERE relnamespace::regnamespace::text LIKE 'public%%' ORDER BY 1")

    def follow(self, message, day):
        """Run what the message says, around the load."""
        statements = re.findall("`([^`]*)`", message)
        self.run(statements[0])
        self.load(day)
        for statement in statements[1:]:
            self.run(statement)


@pytest.fixture(params=["loader"])
def shared(project, request):
    warehouse = project.warehouse
    if request.param == "loader":
        warehouse.let_in_as(*ROLES["warehouse"])
    warehouse.run(BUILD)
    dates = Dates(project)
    dates.land(D1, orders=(ABC, ROW, "a"), notes=({"n": "text"}, [["n"]]))
    dates.load(D1)
    warehouse.run("GRANT SELECT ON public.orders, public.notes TO ann, bob")
    yield Shared(dates)
    dates.close()
    warehouse.run("DROP OWNED BY ann, bob CASCADE; DROP ROLE ann, bob")


superuser_too = pytest.mark.parametrize("shared", ["loader", "superuser"], indirect=True)


@superuser_too
def test_columns_that_a_colleagues_view_does_not_use_come_go_move_and_widen(shared):
    shared.build("CREATE VIEW lab.v AS SELECT a FROM public.orders WHERE a > 0")
    shared.day(D2, {"new": "text", "c": "text", "a": "integer"}, [["n", "y", "5"]], "a")
    assert shared.read("lab.v") == [(5,)]
    assert shared.shown() == ["new", "c", "a"]
    assert shared.read("public.orders", "bob") == [("n", "y", 5)]
    shared.day(D3, {"c": "text", "b": "bigint", "a": "integer"}, [["z", "3000000000", "6"]], "a")
    assert shared.read("lab.v") == [(6,)]
    assert shared.read("public.orders", "bob") == [("z", 3000000000, 6)]
    shared.day(D4, ABC | {"b": "bigint"}, [["7", "1", "x"]], "a")
    assert shared.read("lab.v") == [(7,)]
    shared.load(D1, reload=True)
    assert shared.read("lab.v") == [(7,)]
    assert not shared.dates.unproved(D1, D2, D3, D4)


def test_the_old_columns_are_kept_until_the_colleague_has_created_the_view_again(shared):
    shared.build("CREATE VIEW lab.v AS SELECT a, c FROM public.orders")
    shared.day(D2, {"c": "text", "a": "integer"}, [["y", "5"]], "a")
    assert shared.kept() == {"orders@view-1": "a integer, b integer, c text"}
    comment, = shared.run("SELECT obj_description('public_history.\"orders@view-1\"'::regclass)")[0]
    assert "view lab.v of role ann" in comment
    assert "NULL here: b" in comment
    shared.day(D3, {"c": "text", "a": "integer"}, [["z", "6"]], "a")
    assert shared.read("lab.v") == [(6, "z")]
    shared.build("DROP VIEW lab.v; CREATE VIEW lab.v AS SELECT a, c FROM public.orders")
    shared.day(D4, {"c": "text", "a": "integer"}, [["z", "7"]], "a")
    assert shared.kept() == {}
    assert shared.read("lab.v") == [(7, "z")]
    assert shared.shown() == ["c", "a"]


def test_views_of_two_colleagues_on_different_columns_stay(shared):
    shared.build("CREATE VIEW lab.v AS SELECT a FROM public.orders; GRANT SELECT ON lab.v TO bob")
    shared.day(D2, {"c": "text", "a": "integer", "d": "integer"}, [["y", "5", "50"]], "a")
    shared.build("CREATE VIEW lab.w AS SELECT d, v.a FROM public.orders JOIN lab.v USING (a)", "bob")
    shared.day(D3, {"d": "integer", "a": "integer"}, [["60", "6"]], "a")
    assert {*shared.kept()} == {"orders@view-1", "orders@view-2"}
    assert (shared.read("lab.v"), shared.read("lab.w", "bob")) == ([(6,)], [(60, 6)])
    shared.land(D4, {"a": "integer"}, [["7"]], "a")
    message = shared.refused(D4)
    assert "view lab.w of role bob uses d (gone) of public.orders" in message
    assert "as bob or an administrator: `DROP VIEW lab.w;`" in message
    assert "lab.v " not in message.split("`")[0]
    shared.run("DROP VIEW lab.w")
    shared.load(D4)
    assert {*shared.kept()} == {"orders@view-1"}
    assert shared.read("lab.v") == [(7,)]


def test_grants_and_comments_are_as_they_were_on_the_new_view_and_for_the_colleagues_view(shared):
    shared.run("GRANT SELECT (a), UPDATE (c) ON orders TO bob; COMMENT ON VIEW orders IS 'Mine';"
               "COMMENT ON COLUMN orders.a IS 'A'; ALTER VIEW orders SET (security_barrier=true)")
    shared.build("CREATE VIEW lab.v AS SELECT a FROM public.orders")
    of = ("SELECT relowner::regrole::text, relacl::text, reloptions, obj_description(oid), (SELECT array_agg("
          "(attname, attacl, col_description(attrelid, attnum))::text) FROM pg_attribute WHERE attrelid = c.oid "
          "AND attname IN ('a', 'c')) FROM pg_class c WHERE oid = %s::regclass")
    before = shared.run(of, "public.orders")[0]
    shared.day(D2, {"a": "integer", "c": "text"}, [["5", "y"]], "a")
    assert shared.run(of, "public.orders")[0] == before
    kept = shared.run(of, 'public_history."orders@view-1"')[0]
    assert (kept[:3], kept[4]) == (before[:3], before[4])
    shared.run("REVOKE SELECT ON public.orders FROM ann; REVOKE UPDATE (c) ON public.orders FROM bob")
    assert shared.read("lab.v") == [(5,)]  # ann's view reads with ann's rights on the view that it has,
    shared.day(D3, {"a": "integer", "c": "text"}, [["6", "y"]], "a")
    with pytest.raises(InsufficientPrivilege):  # which are those on the newest view from the next load on
        shared.read("lab.v")
    assert shared.run("SELECT has_any_column_privilege('bob', oid, 'UPDATE'), has_column_privilege('bob', oid, 'a', "
                      "'SELECT') FROM pg_class WHERE relname = 'orders@view-1'") == [(False, True)]


KINDS = """
CREATE VIEW lab.invoker WITH (security_invoker=true) AS SELECT a FROM public.orders;
CREATE VIEW lab.barrier WITH (security_barrier=true) AS SELECT a FROM public.orders;
CREATE VIEW lab.nested AS SELECT a FROM lab.barrier;
CREATE MATERIALIZED VIEW lab.stored AS SELECT a FROM public.orders;
CREATE INDEX ON lab.stored (a);
CREATE FUNCTION lab.total() RETURNS bigint BEGIN ATOMIC SELECT sum(a) FROM public.orders; END;
CREATE TABLE lab.mine (a integer);
CREATE POLICY known ON lab.mine USING (a IN (SELECT a FROM public.orders));
CREATE RULE counting AS ON INSERT TO lab.mine
    DO ALSO UPDATE lab.mine SET a = 0 WHERE a IN (SELECT a FROM public.orders);
"""


@superuser_too
def test_every_kind_of_object_stays_where_its_columns_stay_and_is_named_where_they_go(shared):
    shared.build(KINDS)
    shared.day(D2, {"c": "text", "a": "integer"}, [["y", "5"]], "a")
    for relation in ("invoker", "barrier", "nested"):
        assert shared.read(f"lab.{relation}") == [(5,)]
    assert shared.read("lab.total()") == [(5,)]
    assert shared.read("lab.stored") == [(1,)]  # its rows are its owner's business
    shared.build("REFRESH MATERIALIZED VIEW lab.stored")
    assert shared.read("lab.stored") == [(5,)]
    shared.land(D3, {"c": "text"}, [["z"]])
    message = shared.refused(D3)
    for what in ("function lab.total()", "policy known on lab.mine", "rule counting on lab.mine", "materialized view "
                 "lab.stored"):
        assert f"{what} of role ann uses a (gone) of public.orders" in message
    statements = re.findall("`([^`]*)`", message)
    shared.run(statements[0])
    shared.load(D3)
    assert shared.kept() == {}
    shared.day(D4, ABC, ROW, "a")
    shared.run(f"SET ROLE ann; {statements[1]}; RESET ROLE")  # a is back
    assert shared.read("lab.total()") == shared.read("lab.nested") == [(1,)]
    assert shared.one("SELECT count(*) FROM pg_indexes WHERE tablename = 'stored'") == 1
    assert shared.one("SELECT count(*) FROM pg_policies WHERE policyname = 'known'") == 1


WHOLE_ROWS = [
    "CREATE VIEW lab.v AS SELECT o FROM public.orders o",
    "CREATE VIEW lab.v AS SELECT row_to_json(o) FROM public.orders o",
    "CREATE VIEW lab.v AS SELECT count(o.*) FROM public.orders o",
    "CREATE VIEW lab.v AS SELECT to_json(j) FROM (public.orders a JOIN public.orders b USING (a)) j",
    "CREATE VIEW lab.v AS SELECT * FROM public.orders",
    "CREATE FUNCTION lab.v() RETURNS SETOF public.orders LANGUAGE sql AS 'SELECT * FROM public.orders'",
    "CREATE FUNCTION lab.v(o public.orders) RETURNS text LANGUAGE sql AS 'SELECT $1.c'",
    "CREATE TABLE lab.v (o public.orders)",
    "CREATE FUNCTION lab.v() RETURNS bigint BEGIN ATOMIC SELECT count(o) FROM public.orders o; END",
]


@pytest.mark.parametrize("statement", WHOLE_ROWS)
def test_whole_rows_use_all_columns(shared, statement):
    shared.build(statement)
    shared.day(D2, {**ABC, "d": "text"}, [["1", "2", "x", "y"]], "a")  # one more at the end
    shared.land(D3, {"a": "integer", "c": "text"}, [["1", "x"]], "a")
    message = shared.refused(D3)
    assert "lab.v" in message
    assert "of role ann" in message


def test_a_view_that_uses_a_column_whose_type_changes_is_named_and_its_statements_work(shared):
    name = 'lab."It\'s ""one"""'
    shared.build(f"CREATE VIEW {name} WITH (security_barrier=true) AS SELECT b, 'a\n;  b' AS t FROM orders;"
                 f"CREATE VIEW lab.upon AS SELECT b + 1 AS more FROM {name}; GRANT SELECT ON lab.upon TO bob, PUBLIC")
    shared.land(D2, ABC | {"b": "bigint"}, [["1", "3000000000", "x"]], "a")
    message = shared.refused(D2)
    assert "of role ann uses b (integer becomes bigint) of public.orders" in message
    assert "Nothing was loaded. First run, as ann or an administrator: `DROP VIEW lab.upon;" in message
    shared.follow(message, D2)
    assert shared.read("lab.upon", "bob") == [(3000000001,)]
    assert shared.read(name, "tester", "t") == [("a\n;  b",)]


def test_a_view_of_the_loader_itself_follows_and_a_colleagues_view_upon_it_stays(shared):
    shared.build("CREATE VIEW own AS SELECT a, c FROM orders; CREATE VIEW other AS SELECT c FROM orders;"
                 "GRANT SELECT ON own TO ann", "warehouse_loader")
    shared.build("CREATE VIEW lab.v AS SELECT a FROM public.own")
    shared.day(D2, {"c": "text", "a": "integer"}, [["y", "5"]], "a")
    assert (shared.read("lab.v"), shared.read("public.own"), shared.read("public.other", "tester")) == (
        [(5,)], [(5, "y")], [("y",)])
    assert "orders@view" in shared.one("SELECT pg_get_viewdef('public.own'::regclass)")
    assert "orders@view" not in shared.one("SELECT pg_get_viewdef('public.other'::regclass)")
    shared.land(D3, {"c": "text", "a": "bigint"}, [["y", "5"]], "a")
    message = shared.refused(D3)
    assert "`DROP VIEW lab.v;`" in message
    shared.run("DROP VIEW lab.v")
    with pytest.raises(RefusedError, match=re.escape("DROP VIEW public.own")):
        shared.load(D3)


def test_a_table_that_is_absent_a_drop_and_an_older_date_leave_the_colleagues_view_right(shared):
    shared.build("CREATE VIEW lab.v AS SELECT a, n.n FROM public.orders LEFT JOIN public.notes n ON true")
    shared.day(D2, {"c": "text", "a": "integer"}, [["y", "5"]], "a", notes=({"m": "text", "n": "text"}, [["m", "n2"]]))
    assert shared.read("lab.v") == [(5, "n2")]
    shared.dates.land(D3, notes=({"n": "text"}, [["n3"]]))
    shared.load(D3)
    assert shared.read("lab.v") == []
    assert shared.read("public.orders") == []
    shared.day(D4, {"b": "text", "a": "integer"}, [["y", "6"]], "a")  # b widens to text, an older date's, too
    assert shared.read("lab.v") == [(6, None)]
    shared.dates.land(D5, orders=({"a": "integer"}, [["9"]]), notes=({"n": "text"}, [["n5"]]))
    shared.load(D5)
    shared.land(D2, {"c": "text", "b": "text", "a": "integer"}, [["y", "b", "5"]], "a", notes=({"n": "text"}, [["n2"]]))
    shared.load(D2)
    assert shared.read("lab.v") == [(9, "n5")]
    warehouse = Warehouse(shared.dates.connection, "public", logging.getLogger("test"))
    for day, left in ((D5, [(6, None)]), (D4, []), (D3, [(5, "n2")])):
        warehouse.drop(date.fromisoformat(day), None, [])
        assert shared.read("lab.v") == left


def test_an_older_date_that_widens_a_column_leaves_the_colleagues_view_alone(shared):
    shared.build("CREATE VIEW lab.v AS SELECT a FROM public.orders")
    shared.day(D3, ABC, [["3", "3", "z"]], "a")
    shared.day(D2, ABC | {"b": "text"}, [["2", "b", "y"]], "a")
    assert shared.read("lab.v") == [(3,)]
    assert shared.read("public.orders") == [(3, "3", "z")]
    assert shared.kept() == {"orders@view-1": "a integer, b integer, c text"}


def test_a_view_on_history_stops_only_the_change_of_a_column_that_it_uses(shared):
    shared.run("GRANT USAGE ON SCHEMA public_history TO ann; GRANT SELECT ON public_history.orders TO ann")
    shared.build("CREATE VIEW lab.ages AS SELECT extracted_at, count(a) AS many FROM public_history.orders GROUP BY 1")
    shared.day(D2, ABC | {"b": "bigint"}, [["1", "2", "x"]], "a")
    assert len(shared.read("lab.ages")) == 2
    shared.land(D3, ABC | {"a": "bigint", "b": "bigint"}, [["1", "2", "x"]], "a")
    message = shared.refused(D3)
    assert "view lab.ages of role ann uses a (integer becomes bigint) of public_history.orders" in message
    shared.follow(message, D3)
    assert len(shared.read("lab.ages", "tester")) == 3


def test_a_view_made_while_the_load_copies_stops_the_swap(shared):
    shared.land(D2, {"a": "integer", "c": "text"}, [["5", "y"]], "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planned_changes.PlannedChanges, "refuse", lambda *_: shared.build(
            "CREATE OR REPLACE VIEW lab.v AS SELECT b FROM public.orders"))
        with pytest.raises(WarehouseError, match=r"ann uses b \(gone\) of public.orders. Nothing changed"):
            shared.load(D2)
    assert shared.read("lab.v") == [(2,)]


def test_each_attempt_is_one_transaction_so_readers_always_find_the_views(shared):
    shared.build("CREATE VIEW lab.v AS SELECT a FROM public.orders")
    with contextlib.closing(shared.dates.project.warehouse.connect()) as reader, reader.cursor() as cursor:
        cursor.execute("BEGIN; SELECT a FROM lab.v")
        shared.land(D2, {"c": "text", "a": "integer"}, [["y", "5"]], "a")
        with pytest.MonkeyPatch.context() as patch:
            tries = []
            patch.setattr(locks, "LOCK_WAIT", 0.05)
            attempt = locks.LockRetry._attempt

            def counted(self, change):
                tries.append(1)
                if len(tries) == 3:
                    cursor.execute("SELECT a FROM lab.v")
                    assert cursor.fetchall() == [(1,)]
                    cursor.execute("COMMIT")
                attempt(self, change)

            patch.setattr(locks.LockRetry, "_attempt", counted)
            shared.load(D2)
    assert len(tries) == 3
    assert shared.kept() == {"orders@view-1": "a integer, b integer, c text"}


# Objects on history itself

def privileges(shared):
    shared.run("GRANT USAGE ON SCHEMA public_history TO ann; GRANT SELECT, REFERENCES ON public_history.orders TO ann;"
               f'GRANT SELECT, REFERENCES ON public_history."orders@{D1}" TO ann')


@superuser_too
def test_a_foreign_key_to_history_stops_only_the_replacement_of_rows_that_it_refers_to(shared):
    privileges(shared)
    shared.build("CREATE TABLE lab.marked (day date, a integer, "
                 "FOREIGN KEY (day, a) REFERENCES public_history.orders (extracted_at, a));"
                 f"INSERT INTO lab.marked VALUES ('{D1}', 1); GRANT SELECT ON lab.marked TO warehouse_loader")
    shared.run("GRANT USAGE ON SCHEMA lab TO warehouse_loader")
    shared.day(D2, ABC | {"a": "bigint"}, ROW, "a")  # a new date, and a wider key
    shared.load(D2, reload=True)
    with pytest.raises(RefusedError) as raised:
        shared.load(D1, reload=True)
    message = str(raised.value)
    assert "foreign key marked_day_a_fkey of table lab.marked of role ann refers to" in message
    assert "`ALTER TABLE lab.marked DROP CONSTRAINT marked_day_a_fkey;`" in message
    before, after = re.findall("`([^`]*)`", message)
    shared.run(before)
    shared.load(D1, reload=True)
    shared.run(after)
    shared.dates.land(D3, orders=(ABC | {"a": "bigint"}, ROW, "a", "b"))
    assert "foreign key marked_day_a_fkey" in shared.refused(D3)  # the key of the table has to go


def test_a_foreign_key_whose_rows_the_loader_may_not_see_is_named(shared):
    privileges(shared)
    shared.build("CREATE TABLE lab.marked (day date, a integer, "
                 "FOREIGN KEY (day, a) REFERENCES public_history.orders (extracted_at, a))")
    shared.day(D2, ABC, ROW, "a")
    with pytest.raises(RefusedError, match="foreign key marked_day_a_fkey"):
        shared.load(D2, reload=True)
    shared.dates.land(D3, orders=(ABC | {"a": "bigint"}, ROW, "a"))
    shared.run("GRANT SELECT ON lab.marked TO warehouse_loader")
    assert "foreign key marked_day_a_fkey" in shared.refused(D3)
    with pytest.raises(RefusedError):
        shared.load(D2, reload=True)
    shared.run("GRANT USAGE ON SCHEMA lab TO warehouse_loader")
    shared.load(D2, reload=True)
    shared.load(D3)


def test_what_is_built_on_one_partition_is_named_before_the_partition_is_replaced(shared):
    privileges(shared)
    partition = f'public_history."orders@{D1}"'
    shared.build(f"CREATE VIEW lab.first AS SELECT a FROM {partition}; GRANT SELECT ON lab.first TO bob;"
                 "CREATE TABLE lab.marked (day date, a integer, "
                 f"FOREIGN KEY (day, a) REFERENCES {partition} (extracted_at, a))")
    shared.run(f"SET client_min_messages = error; CREATE PUBLICATION sent FOR TABLE {partition}, public_history.notes")
    with pytest.raises(RefusedError) as raised:
        shared.load(D1, reload=True)
    message = str(raised.value)
    for statement in ("DROP VIEW lab.first;", f"ALTER PUBLICATION sent DROP TABLE {partition};",
                      "ALTER TABLE lab.marked DROP CONSTRAINT marked_day_a_fkey;"):
        assert statement in message
    before, after = re.findall("`([^`]*)`", message)
    shared.run(before)
    shared.load(D1, reload=True)
    shared.run(after)
    assert shared.read("lab.first", "bob") == [(1,)]
    assert shared.run("SELECT tablename FROM pg_publication_tables WHERE tablename LIKE 'orders%%'") == [
        (f"orders@{D1}",)]
    with pytest.raises(RefusedError):
        shared.load(D1, reload=True)


def test_what_is_built_on_the_whole_table_of_history_is_there_after_a_load(shared):
    shared.run("SET client_min_messages = error; CREATE PUBLICATION sent FOR TABLE public_history.orders;"
               "CREATE INDEX ON public_history.orders (c); CREATE STATISTICS pair ON a, b FROM public_history.orders")
    shared.day(D2, ABC | {"b": "bigint"}, ROW, "a")
    shared.load(D1, reload=True)
    assert shared.one("SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'orders@%%_c_idx'") in (1, 2)
    assert shared.one("SELECT count(*) FROM pg_publication_rel") == 1
    assert shared.one("SELECT count(*) FROM pg_statistic_ext") == 1


# Commands

def test_two_schemas_and_what_plan_and_certify_say_before_the_load(shop):
    warehouse = shop.warehouse
    role, file = ROLES["warehouse"]
    warehouse.let_in_as(role, file)
    warehouse.run((ROOT / file).read_text().replace("ARRAY['public']", "ARRAY['public', 'mart']"))
    as_loader = {"TARGET_POSTGRES_USER": role}

    def plan(schema, day):
        one, = json.loads(shop.landing("plan", "--from", day, "--to", day, "--json", "--schema", schema,
                                       **as_loader).stdout)["dates"]
        return one["load"], one["refusals"]

    def load(schema, day, **how):
        return shop.pipe(shop.tap_landed(sources=["postgres"]), shop.target_postgres(), EXTRACTED_AT=day, SCHEMA=schema,
                         **how)

    (shop.folder / "meltano.yml").write_text("jobs:\n- name: extract_postgres\n  tasks: [tap-postgres target-csv]\n")
    shop.land(D1, "postgres")
    load("public", D1)
    load("mart", D1)
    warehouse.run(BUILD + "GRANT USAGE ON SCHEMA mart TO ann; GRANT SELECT ON orders, mart.orders TO ann")
    try:
        warehouse.run("SET ROLE ann; CREATE VIEW lab.v AS SELECT sum(order_id) FROM public.orders;"
                      "CREATE VIEW lab.w AS SELECT count(customer) AS many FROM mart.orders; RESET ROLE")
        shop.source.run("ALTER TABLE orders DROP freight, ADD freight real; UPDATE orders SET freight = 1;"
                        "ALTER TABLE orders DROP customer; ALTER TABLE orders ADD customer text DEFAULT 'c'")
        shop.land(D2, "postgres")
        assert plan("public", D2) == plan("mart", D2) == ("load", [])
        load("public", D2)
        load("mart", D2)
        assert warehouse.run("SELECT * FROM lab.v, lab.w") == [(5050, 100)]
        shop.source.run("ALTER TABLE orders DROP customer")
        shop.land(D3, "postgres")
        said = "view lab.w of role ann uses customer (gone) of mart.orders"
        assert plan("public", D3) == ("load", [])
        action, refusals = plan("mart", D3)
        assert action == "refuse"
        assert said in refusals[0]
        assert "`DROP VIEW lab.w;`" in refusals[0]
        certified = shop.landing("certify", "--schema", "mart", check=False, **as_loader)
        assert certified.returncode == 1
        assert said in certified.stdout
        assert shop.landing("certify", **as_loader).returncode == 0
        refused = load("mart", D3, check=False)
        assert refused.returncode == 1
        assert said in refused.text
        assert "COPY" not in refused.text
        load("public", D3)
        assert warehouse.run("SELECT * FROM lab.v, lab.w") == [(5050, 100)]
        proofs = json.loads(shop.landing("verify", D3, "--json", **as_loader).stdout)
        assert all(one["equal"] for one in proofs)
    finally:
        warehouse.run("DROP OWNED BY ann, bob CASCADE; DROP ROLE ann, bob")


def test_a_view_of_the_loader_that_cannot_be_created_on_the_new_types_is_named_before_the_copy(shared):
    shared.build("CREATE VIEW own AS SELECT sum(b) AS total FROM orders; CREATE VIEW fine AS SELECT b FROM orders;"
                 "CREATE VIEW upon AS SELECT total + 1 AS one FROM own", "warehouse_loader")
    shared.land(D2, ABC | {"b": "text"}, [["1", "b", "x"]], "a")
    message = shared.refused(D2)
    assert "view public.own of role warehouse_loader cannot be created again on the new columns of public." in message
    assert "function sum(text) does not exist" in message
    assert "`DROP VIEW public.upon; DROP VIEW public.own;`" in message
    shared.run("DROP VIEW upon, own")
    shared.load(D2)
    assert shared.read("public.fine", "tester") == [("b",)]


def test_a_view_that_belongs_to_another_role_than_the_loaders_is_named(shared):
    shared.run("ALTER VIEW public.orders OWNER TO ann")
    shared.land(D2, ABC, ROW, "a")
    message = shared.refused(D2)
    assert "public.orders belongs to role ann; role warehouse_loader cannot change it" in message
    shared.run((ROOT / ROLES["warehouse"][1]).read_text())
    shared.load(D2)


def test_the_role_of_loads_takes_over_kept_views(shared):
    shared.build("CREATE VIEW lab.v AS SELECT a FROM public.orders")
    shared.day(D2, {"c": "text", "a": "integer"}, [["y", "5"]], "a")
    shared.run('ALTER VIEW public_history."orders@view-1" OWNER TO tester')
    shared.run((ROOT / ROLES["warehouse"][1]).read_text())
    shared.day(D3, {"c": "text", "a": "integer"}, [["y", "6"]], "a")
    assert shared.read("lab.v") == [(6,)]


def test_a_view_through_which_people_write_may_check_what_they_write(shared):
    shared.run("ALTER VIEW public.orders SET (check_option=local); GRANT ALL ON public.orders TO ann")
    shared.build("CREATE VIEW lab.v AS SELECT a FROM public.orders")
    shared.day(D2, ABC | {"b": "bigint"}, [["5", "6", "y"]], "a")
    assert shared.read("lab.v") == [(5,)]
    assert shared.one("SELECT reloptions FROM pg_class WHERE oid = 'public.orders'::regclass") == ["check_option=local"]
