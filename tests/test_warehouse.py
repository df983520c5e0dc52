"""A load leaves the warehouse as it was, or with the whole date; what people built on it stays."""

import json
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from landing.load import load_history
from landing.load.history import columns_of
from landing.load.load_history import LoadHistory
from landing.model.manifest import sealed
from landing.postgres.connect import connect

D0, D1, D2, D3, D4 = (f"2024-01-{day}" for day in (19, 20, 21, 22, 23))


def land(project, day, **variables):
    return project.land(day, "postgres", **variables)


def load(project, day, check=True, *, settings=None, **variables):
    """Load the source postgres alone."""
    config = project.config(**project.warehouse.settings() | (settings or {}))
    target = [project.target_postgres()[0], "--config", config]
    return project.pipe(project.tap_landed(sources=["postgres"]), target, check, EXTRACTED_AT=day, **variables)


def day(project, when, check=True, **variables):
    """Land and load."""
    land(project, when, **variables)
    return load(project, when, check, **variables)


def refused(project, when, *said, **variables):
    """The load is refused in these words, and the warehouse is as it was."""
    before = state(project)
    result = load(project, when, check=False, **variables)
    assert result.returncode != 0
    for words in said:
        assert words in result.text
    assert "Traceback" not in result.text
    assert state(project) == before
    return result


def state(project):
    """Everything in the schemas that a load could change: relations and their ids, columns, grants, ledger, rows."""
    run = project.warehouse.run
    relations = run(
        "SELECT c.oid::regclass::text, c.oid, c.relfilenode, c.relacl::text, c.relispartition, obj_description(c.oid), "
        "CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END, "
        "ARRAY(SELECT (attname, format_type(atttypid, atttypmod), attnum)::text FROM pg_attribute "
        "WHERE attrelid = c.oid AND attnum > 0 ORDER BY attnum) FROM pg_class c "
        "WHERE c.relnamespace::regnamespace::text ~ '^(public|public_history)$' ORDER BY 1"
    )
    if not run("SELECT to_regclass('public_history._loads')")[0][0] or not run("SELECT 1 FROM public_history._loads"):
        relations = [row for row in relations if not row[0].startswith("public_history._loads")]  # empty is as none
    tables = [name for name, *_, columns in relations if columns and "pkey" not in name]
    rows = {name: run(f"SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {name} t")
            for name in tables}
    return relations, rows


def verified(project, *days):
    """Each date is proved, for the source postgres alone."""
    for when in days:
        report = json.loads(project.landing("verify", when, "--json", check=False).stdout or "[]")
        assert report, when
        assert all(table["equal"] for table in report), report


@pytest.fixture
def shop(shop):
    """Only the source postgres is declared: half the time for `landing verify`."""
    config = (shop.folder / "meltano.yml").read_text()
    before, after = config.split("- name: extract_csv\n", 1)
    (shop.folder / "meltano.yml").write_text(before + after.split("- tap-csv target-csv\n", 1)[1])
    return shop


def ids(project, table="orders"):
    query = "SELECT inhrelid::regclass::text, inhrelid FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1"
    return project.warehouse.run(query, f"public_history.{table}")


def test_loading_a_date_again_changes_nothing_unless_reload_is_set(shop):
    day(shop, D1)
    before = state(shop)
    said = load(shop, D1).text
    assert "is already loaded: nothing changed" in said
    assert state(shop) == before
    rows, partitions = shop.rows("orders"), ids(shop)
    load(shop, D1, RELOAD="true")
    assert ids(shop) != partitions
    assert len(ids(shop)) == 1
    assert shop.rows("orders") == rows


def test_view_shows_the_newest_date_whatever_is_loaded_later(shop):
    day(shop, D2)
    shop.source.run(
        "UPDATE orders SET customer = 'new' WHERE order_id <= 5; DELETE FROM orders WHERE order_id > 90;"
        "INSERT INTO orders VALUES (1000, 'x', 1); DELETE FROM notes WHERE order_id = 3;"
        "INSERT INTO notes VALUES (1, 'n'), (1, 'n'), (NULL, NULL)"
    )
    day(shop, D3)
    query = "SELECT * FROM {} ORDER BY 1, 2"
    for table in ("orders", "notes"):
        newest = shop.source.run(query.format(f"public.{table}"))
        assert shop.warehouse.run(query.format(f"public.{table}")) == newest
    history = "SELECT extracted_at::text, count(*) FROM public_history.{} GROUP BY 1 ORDER BY 1"
    assert shop.warehouse.run(history.format("orders")) == [(D2, 100), (D3, 91)]
    assert shop.warehouse.run(history.format("notes")) == [(D2, 40), (D3, 39)]
    load(shop, D2, RELOAD="true")
    shop.source.run("TRUNCATE notes; CREATE TABLE early (x integer)")
    day(shop, D1)
    assert shop.warehouse.one("SELECT count(*) FROM orders WHERE customer = 'new'") == 5
    assert shop.warehouse.one("SELECT count(*) FROM notes") == 39
    assert shop.warehouse.run(history.format("notes")) == [(D2, 40), (D3, 39)]
    assert shop.warehouse.one("SELECT count(*) FROM early") == 0
    assert f"since {D2}" in shop.warehouse.one("SELECT obj_description('early'::regclass)")


def test_date_landed_anew_replaces_that_date_and_a_table_that_is_gone_keeps_an_empty_view(shop):
    shop.source.run("COMMENT ON TABLE notes IS 'Notes of people'")
    day(shop, D1)
    day(shop, D2)
    shop.warehouse.run("CREATE VIEW built AS SELECT count(*) AS many FROM notes")
    notes = shop.source.run("SELECT * FROM notes")
    shop.source.run("DELETE FROM orders WHERE order_id > 10; DROP TABLE notes")
    day(shop, D2, REEXTRACT="true")
    comment = "SELECT obj_description('public.notes'::regclass)"
    assert shop.warehouse.one("SELECT count(*) FROM orders") == 10
    assert shop.warehouse.run("SELECT extracted_at::text, count(*) FROM public_history.notes GROUP BY 1") == [(D1, 40)]
    assert shop.warehouse.one("SELECT many FROM built") == 0
    assert shop.warehouse.one(comment) == f"Not in the source since {D2}: see public_history.\nNotes of people"
    shop.source.run("CREATE TABLE notes (order_id integer, note text)")
    shop.source.connection.cursor().executemany("INSERT INTO notes VALUES (%s, %s)", notes)
    day(shop, D3)
    assert shop.warehouse.one("SELECT many FROM built") == 40
    assert shop.warehouse.one(comment) == "Notes of people"


def test_columns_come_go_move_and_widen_and_every_date_stays_byte_for_byte(shop):
    shop.source.run(
        "CREATE TABLE wide (id integer PRIMARY KEY, a integer, b varchar(5), c boolean, d char(5), e smallint, "
        "f timestamptz, gone text, g real);"
        "INSERT INTO wide VALUES (1, 7, 'x', true, 'ab', 1, '2024-01-01 12:00+05', 'gone', 0.1), "
        "(2, NULL, '', false, '', NULL, NULL, NULL, 1e20), (3, 0, NULL, NULL, NULL, 32767, 'infinity', '', 'NaN')"
    )
    land(shop, D0)
    day(shop, D1)
    shop.source.run(
        "ALTER TABLE wide ALTER a TYPE bigint, ALTER b TYPE text, ALTER c TYPE text, ALTER d TYPE text, "
        "ALTER e TYPE integer, ALTER f TYPE text, ALTER g TYPE text, DROP gone, ADD new date DEFAULT '2024-02-02';"
        "ALTER TABLE wide RENAME TO old; CREATE TABLE wide AS SELECT new, id, g, f, e, d, c, b, a FROM old;"
        "ALTER TABLE wide ADD PRIMARY KEY (id); DROP TABLE old; UPDATE wide SET a = 9223372036854775807 WHERE id = 1"
    )
    said = day(shop, D2).text
    assert "wide: new column new date; NULL in older partitions" in said
    assert "wide.a: integer widens to bigint" in said
    load(shop, D0)  # an older, narrower date comes after
    columns = shop.warehouse.run(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'public.wide'::regclass "
        "AND attnum > 0 ORDER BY attnum"
    )
    assert columns == [("new", "date"), ("id", "integer"), ("g", "text"), ("f", "text"), ("e", "integer"),
                       ("d", "text"), ("c", "text"), ("b", "text"), ("a", "bigint")]
    history = shop.warehouse.run("SELECT extracted_at::text, gone, new::text, d, c FROM public_history.wide "
                                 "WHERE id = 1 ORDER BY 1")
    assert history == [(D0, "gone", None, "ab   ", "t"), (D1, "gone", None, "ab   ", "t"),
                       (D2, None, "2024-02-02", "ab", "true")]
    verified(shop, D0, D1, D2)
    shop.source.run("ALTER TABLE wide DROP e, ADD e date")
    land(shop, D3)
    refused(shop, D3, "table wide, column e: the warehouse has integer, this partition has date", "Nothing was loaded")


def test_declared_types_are_known_by_every_name_that_postgresql_has_for_them(project):
    project.csv("t.csv", "a,b\n1,x\n")
    tap = project.tap_csv({"entity": "t", "path": "extract/t.csv", "types": {"a": "int", "b": "varchar(9)"}})
    for when in (D1, D2):
        project.pipe(tap, project.target_csv(), DATESTAMP=when)
        project.pipe(project.tap_landed(sources=["csv"]), project.target_postgres(), EXTRACTED_AT=when)
    assert project.rows("t") == [("(1,x)",)]


def test_a_table_whose_key_begins_with_the_date_keeps_it_so(shop):
    key = ("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' "
           "AND conrelid = format('public_history.%%I', %s)::regclass")
    day(shop, D1)
    shop.warehouse.run("ALTER TABLE public_history.orders DROP CONSTRAINT orders_pkey;"
                       "ALTER TABLE public_history.orders ADD PRIMARY KEY (extracted_at, order_id)")
    shop.source.run("UPDATE orders SET customer = 'changed' WHERE order_id = 1")
    said = day(shop, D2).text
    load(shop, D1, RELOAD="true")
    assert "key changed" not in said
    for table in ("orders", f"orders@{D1}", f"orders@{D2}"):
        assert shop.warehouse.one(key, table) == "PRIMARY KEY (extracted_at, order_id)"
    verified(shop, D1, D2)


def test_keys_change_come_and_go_between_dates(shop):
    key = ("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' "
           "AND conrelid = format('public_history.%%I', %s)::regclass")
    day(shop, D1)
    shop.source.run(
        "ALTER TABLE orders DROP CONSTRAINT orders_pkey, ALTER order_id DROP NOT NULL;"
        "INSERT INTO orders VALUES (1, 'again', 1), (NULL, 'none', 1); ALTER TABLE orders ADD n serial PRIMARY KEY;"
        "ALTER TABLE notes ADD id serial PRIMARY KEY"
    )
    said = day(shop, D2).text
    assert "the primary key changed from ['order_id'] to ['n']" in said
    assert shop.warehouse.one("SELECT count(*) FROM orders") == 102
    assert shop.warehouse.run(key, "orders") == shop.warehouse.run(key, "notes") == []
    assert shop.warehouse.one(key, f"orders@{D2}") == "PRIMARY KEY (n, extracted_at)"
    assert shop.warehouse.one(key, f"notes@{D2}") == "PRIMARY KEY (id, extracted_at)"
    shop.source.run("ALTER TABLE orders DROP CONSTRAINT orders_pkey; ALTER TABLE orders ALTER n DROP NOT NULL;"
                    "INSERT INTO orders SELECT * FROM orders; UPDATE orders SET n = NULL WHERE n = 7")
    day(shop, D3)
    assert shop.warehouse.one("SELECT count(*) FROM orders") == 204
    load(shop, D1, RELOAD="true")
    assert shop.warehouse.one(key, f"orders@{D1}") == "PRIMARY KEY (order_id, extracted_at)"
    verified(shop, D1, D2, D3)


BUILD = """
CREATE VIEW per_customer AS SELECT customer, count(*) AS many FROM public.orders GROUP BY customer;
CREATE VIEW "Top %% one" WITH (security_invoker=true) AS SELECT * FROM per_customer ORDER BY many DESC LIMIT 1;
CREATE VIEW ages AS SELECT extracted_at, count(order_id) AS many FROM public_history.orders GROUP BY 1;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS many FROM public.notes;
GRANT SELECT ON orders, per_customer, public_history.orders TO PUBLIC;
GRANT SELECT ON orders TO reader WITH GRANT OPTION;
GRANT UPDATE (customer), SELECT (order_id) ON orders TO reader;
REVOKE DELETE ON orders FROM owner;
ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO reader;
COMMENT ON VIEW orders IS '100 %% it''s \\ mine'; COMMENT ON COLUMN orders.customer IS 'Who';
COMMENT ON VIEW per_customer IS 'built';
ALTER VIEW orders SET (security_barrier=true); ALTER VIEW orders ALTER customer SET DEFAULT 'nobody';
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END';
CREATE TRIGGER refusing INSTEAD OF DELETE ON orders FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE RULE silent AS ON UPDATE TO per_customer DO INSTEAD NOTHING;
"""


def built(project):
    """What people built: views, owners, options, grants, comments, defaults, triggers, rules."""
    return [project.warehouse.run(query) for query in (
        "SELECT c.relname, c.relowner::regrole::text, c.reloptions, "
        "ARRAY(SELECT (CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type, is_grantable)"
        "::text FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) ORDER BY 1), "
        "ARRAY(SELECT (attname, attacl)::text FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL ORDER BY "
        "1), obj_description(c.oid), CASE WHEN c.relname NOT IN ('orders', 'notes') THEN pg_get_viewdef(c.oid) END "
        "FROM pg_class c WHERE c.relkind IN ('v', 'm') AND c.relnamespace = 'public'::regnamespace ORDER BY 1",
        "SELECT col_description('orders'::regclass, attnum) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND "
        "attname = 'customer'",
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'orders'::regclass",
        "SELECT definition FROM pg_rules WHERE schemaname = 'public'",
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'orders'::regclass",
        "SELECT relacl::text FROM pg_class WHERE oid = 'public_history.orders'::regclass",
    )]


@pytest.fixture
def roles(shop):
    shop.warehouse.run("CREATE ROLE reader; CREATE ROLE owner SUPERUSER")
    yield
    shop.warehouse.run("DROP OWNED BY reader, owner CASCADE; DROP ROLE reader, owner")


@pytest.mark.usefixtures("roles")
def test_what_people_build_survives_every_load_or_the_load_is_refused(shop):
    shop.source.run("ALTER TABLE orders ADD spare integer")
    day(shop, D1)
    shop.warehouse.run("ALTER VIEW orders OWNER TO owner")
    shop.warehouse.run(BUILD.replace("%%", "%"))
    shop.warehouse.run("GRANT SELECT ON public_history.orders TO owner")
    before = built(shop)
    shop.source.run("DELETE FROM orders WHERE order_id = 1")
    day(shop, D2)
    assert built(shop) == before
    shop.source.run("ALTER TABLE orders DROP spare, ADD more text, ALTER order_id TYPE integer, "
                    "ALTER freight TYPE text")
    day(shop, D3)
    assert shop.warehouse.run("SELECT many FROM ages ORDER BY extracted_at") == [(100,), (99,), (99,)]
    assert shop.warehouse.run('SELECT many FROM "Top % one"') == [(15,)]
    shop.source.run("ALTER TABLE orders DROP customer")
    land(shop, D4)
    after = built(shop)
    refused(shop, D4, "view public.per_customer of role tester uses customer (gone) of public.orders",
            "Nothing was loaded", 'DROP VIEW public."Top % one"; DROP VIEW public.per_customer;')
    assert built(shop) == after == before


def test_what_cannot_be_built_again_is_named(shop):
    day(shop, D1)
    shop.warehouse.run("CREATE MATERIALIZED VIEW kept AS SELECT note FROM notes")
    shop.source.run("ALTER TABLE notes ADD extra text")
    day(shop, D2)  # a column more at the end leaves the others as they are
    assert shop.warehouse.one("SELECT count(*) FROM kept") == 40
    shop.source.run("ALTER TABLE notes DROP note")
    land(shop, D3)
    refused(shop, D3, "materialized view public.kept of role tester uses note (gone) of public.notes")
    shop.warehouse.run("DROP MATERIALIZED VIEW kept; CREATE FUNCTION f() RETURNS SETOF notes LANGUAGE sql AS "
                       "'SELECT * FROM notes'")
    refused(shop, D3, "function public.f() of role tester uses the row type of public.notes")
    shop.warehouse.run(f'DROP FUNCTION f; CREATE VIEW narrow AS SELECT * FROM public_history."notes@{D2}"')
    load(shop, D3)
    refused(shop, D2, f'view public.narrow of role tester is built on "public_history"."notes@{D2}"',
            "DROP VIEW public.narrow;", RELOAD="true")


def test_a_role_without_special_rights_loads_and_is_told_what_it_may_not_touch(shop):
    name = shop.warehouse.name
    shop.warehouse.run("CREATE ROLE loader LOGIN PASSWORD 'loader'; CREATE ROLE analyst;"
                       f"GRANT CREATE ON DATABASE {name} TO loader, analyst")
    try:
        rights = {"settings": {"user": "loader", "password": "loader"}, "SCHEMA": "mart"}
        land(shop, D1)
        load(shop, D1, **rights)
        shop.warehouse.run("SET ROLE loader; CREATE VIEW mart.mine AS SELECT order_id FROM mart.orders;"
                           "GRANT SELECT ON mart.mine TO analyst; RESET ROLE; CREATE SCHEMA lab")
        shop.source.run("ALTER TABLE orders DROP freight, ALTER order_id TYPE bigint")
        land(shop, D2)
        shop.warehouse.run("CREATE VIEW lab.theirs AS SELECT * FROM mart.mine; ALTER VIEW lab.theirs OWNER TO analyst")
        said = load(shop, D2, check=False, **rights).text
        assert "view mart.mine of role loader uses order_id (smallint becomes bigint) of mart.orders" in said
        assert "as analyst or an administrator: `DROP VIEW lab.theirs;`" in said
        assert shop.warehouse.one("SELECT max(extracted_at)::text FROM mart_history.orders") == D1
        shop.warehouse.run("DROP VIEW lab.theirs")
        load(shop, D2, **rights)
        assert shop.warehouse.one("SELECT max(extracted_at)::text FROM mart_history.orders") == D2
        assert shop.warehouse.one("SELECT has_table_privilege('analyst', 'mart.mine', 'SELECT')")
    finally:
        shop.warehouse.run("RESET ROLE; DROP OWNED BY loader, analyst CASCADE; DROP ROLE loader, analyst")


def test_readers_see_the_old_date_or_the_new_one_and_never_half(shop):
    day(shop, D1)
    shop.source.run("INSERT INTO orders VALUES (1000, 'x', 1); INSERT INTO notes VALUES (1, 'x')")
    land(shop, D2)
    seen, failed, done = set(), [], threading.Event()

    def poll(query):
        with closing(shop.warehouse.connect()) as connection, connection.cursor() as cursor:
            while not done.is_set():
                try:
                    cursor.execute(query)
                    seen.add(cursor.fetchone())
                except Exception as error:
                    failed.append(error)

    counts = ["(SELECT count(*) FROM orders) AS orders", "(SELECT count(*) FROM notes) AS notes"]
    readers = [threading.Thread(target=poll, args=(f"SELECT orders, notes FROM (SELECT {', '.join(order)}) t",))
               for order in (counts, counts[::-1])]
    for reader in readers:
        reader.start()
    try:
        load(shop, D2)
        load(shop, D2, RELOAD="true")
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not failed
    assert seen == {(100, 40), (101, 41)}


def test_two_loads_at_once_wait_for_each_other(shop):
    land(shop, D1)
    land(shop, D2)
    shop.warehouse.run("CREATE SCHEMA IF NOT EXISTS public_history")
    for days in ((D1, D2), (D2, D2)):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda when: load(shop, when, RELOAD="true"), days))
    assert [name for name, _ in ids(shop)] == [f'public_history."orders@{when}"' for when in (D1, D2)]
    verified(shop, D1, D2)


def test_a_load_history_is_read_while_another_load_adds_its_columns(project, monkeypatch):
    project.warehouse.run("CREATE SCHEMA public_history;" + load_history.CREATE.format("public_history._loads"))
    project.warehouse.run("INSERT INTO public_history._loads "
                          "VALUES ('postgres', %s, 'orders', 7, '', now(), now(), 'run')", D1)
    with closing(connect(project.warehouse.dsn(), "test")) as mine, closing(
            connect(project.warehouse.dsn(), "test")) as other, monkeypatch.context() as patch:

        def read(cursor, relation):
            found = columns_of(cursor, relation)
            patch.undo()
            LoadHistory(other.cursor(), "public_history").create()
            return found

        patch.setattr(load_history, "columns_of", read)
        history = LoadHistory(mine.cursor(), "public_history")
        (entry,), (again,) = history.entries(), history.entries()
    assert (entry.table, entry.rows, entry.schema) == ("orders", 7, "public")
    assert entry == again


def start_load(project, when):
    """A load that goes on by itself; the tap ends when its target does."""
    environment = project.environment(MELTANO_PROJECT_ROOT=str(project.folder), EXTRACTED_AT=when)
    log = (project.folder / "load.log").open("w")
    tap = subprocess.Popen(project.tap_landed(sources=["postgres"]), cwd=project.folder, env=environment, stderr=log,
                           stdout=subprocess.PIPE)
    target = subprocess.Popen(project.target_postgres(), cwd=project.folder, env=environment, stdin=tap.stdout,
                              stdout=log, stderr=log)
    tap.stdout.close()
    return tap, target


def backend_in_the_swap(project):
    """Pid of the load's backend, once it waits for a lock of ours."""
    for _ in range(400):
        found = project.warehouse.run("SELECT pid FROM pg_stat_activity WHERE application_name = 'target-postgres' "
                                      "AND wait_event_type = 'Lock' AND datname = current_database()")
        if found:
            return found[0][0]
        time.sleep(0.02)
    raise AssertionError((project.folder / "load.log").read_text())


def test_a_load_that_is_blocked_or_killed_in_the_swap_leaves_the_old_date_and_the_next_one_heals(shop):
    day(shop, D1)
    shop.source.run("DELETE FROM orders; DELETE FROM notes")
    land(shop, D2)
    with closing(shop.warehouse.connect()) as reader, reader.cursor() as cursor:
        cursor.execute("BEGIN; SELECT count(*) FROM notes; SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
        refused(shop, D2, "Timed out after 1 s", f"pid {pid} (user tester", "Nothing was loaded",
                "meltano run load_to_postgres", settings={"lock_timeout": 1})

        tap, target = start_load(shop, D2)
        backend_in_the_swap(shop)
        os.kill(target.pid, signal.SIGKILL)
        assert target.wait() == -signal.SIGKILL
        tap.wait()
        assert shop.warehouse.run("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM notes)") == [(100, 40)]

        tap, target = start_load(shop, D2)
        backend = backend_in_the_swap(shop)
        shop.warehouse.run("SELECT pg_terminate_backend(%s)", backend)
        assert target.wait() != 0
        tap.wait()
        said = (shop.folder / "load.log").read_text()
        assert f"PostgreSQL aborted the load of {D2} into public: " in said
        assert "then run: MELTANO_ENVIRONMENT=load" in said
        assert "Traceback" not in said
        assert shop.warehouse.run("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM notes)") == [(100, 40)]
    load(shop, D2)
    assert shop.warehouse.run("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM notes)") == [(0, 0)]
    assert shop.warehouse.run("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE '\\_staging%%'") == []


def test_what_is_not_ours_is_not_replaced(shop):
    land(shop, D1)
    shop.warehouse.run("CREATE TABLE notes (mine integer); INSERT INTO notes VALUES (1);"
                       "CREATE SCHEMA IF NOT EXISTS public_history; CREATE TABLE public_history.of_mine (x integer)")
    refused(shop, D1, "public.notes exists in the warehouse and was not created by a load")
    shop.warehouse.run("DROP TABLE notes; CREATE VIEW orders AS SELECT 1 AS mine")
    refused(shop, D1, "public.orders exists in the warehouse and was not created by a load")
    shop.warehouse.run("DROP VIEW orders; CREATE TABLE public_history.orders (mine integer)")
    refused(shop, D1, "public_history.orders exists in the warehouse and was not created by a load")


def edit(**changes):
    """A manifest with the first table's fields, or the manifest's own, replaced."""
    def change(path):
        manifest = json.loads(path.read_text())
        table = manifest["tables"][1]
        for key, value in changes.items():
            if key == "type":
                table["columns"][0]["type"] = value
            elif key == "path":
                table["files"][0]["path"] = value
            else:
                manifest[key] = value
        path.write_text(json.dumps(sealed(manifest)))
    return change


DAMAGES = {
    "file truncated": ("csv", lambda path: path.write_bytes(path.read_bytes()[:-5])),
    "value flipped": ("csv", lambda path: path.write_bytes(path.read_bytes().replace(b"c3", b"c4", 1))),
    "value that is no value": ("csv", lambda path: path.write_bytes(path.read_bytes().replace(b"\n3,", b"\nx,", 1))),
    "header changed": ("csv", lambda path: path.write_bytes(path.read_bytes().replace(b"freight", b"freighs", 1))),
    "manifest truncated": ("json", lambda path: path.write_bytes(path.read_bytes()[:-50])),
    "format unknown": ("json", edit(min_reader_version=3)),
    "path outside": ("json", edit(path="../../../secret")),
    "type hostile": ("json", edit(type="integer; drop table x")),
}


def test_damage_in_the_landing_zone_is_refused_before_anything_changes(shop):
    land(shop, D1)
    load(shop, D1)
    land(shop, D2)
    (shop.folder / "secret").write_text("x")
    manifest = shop.manifest_path("postgres", D2)
    data, = manifest.parent.glob("table=public-orders/*.csv")
    for name, (kind, damage) in DAMAGES.items():
        path = manifest if kind == "json" else data
        content = path.read_bytes()
        damage(path)
        said = refused(shop, D2, str(path.relative_to(shop.folder))).text
        assert "REEXTRACT=true" in said, name
        path.write_bytes(content)
    manifest.unlink()
    refused(shop, D2, f"Source 'postgres' is not landed for {D2}", f"SOURCE=postgres DATESTAMP={D2} meltano run")


def test_unknown_types_load_as_text_and_long_names_and_odd_schemas_work(shop):
    long = "t" * 60
    shop.source.run(f"CREATE TABLE {long} (a integer); INSERT INTO {long} VALUES (1)")
    land(shop, D1)
    edit(type="int16range")(shop.manifest_path("postgres", D1))  # of the table orders
    said = load(shop, D1, SCHEMA="my schema").text
    assert "this server does not support type int16range; the column loads as text" in said
    assert shop.warehouse.one('SELECT sum(order_id::int) FROM "my schema".orders') == 5050
    assert shop.rows(long, "my schema") == [("(1)",)]
    partition, = shop.warehouse.run("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass",
                                    f'"my schema_history".{long}')
    assert partition[0].endswith(f'@{D1}"')
    assert "t~" in partition[0]
    refused(shop, D1, "SCHEMA", "Run again with", SCHEMA="x" * 56)
    refused(shop, D1, "SCHEMA is empty", SCHEMA="")


def test_sources_with_a_table_of_the_same_name_are_refused_by_name(shop):
    shop.csv("o.csv", "a\n1\n")
    land(shop, D1)
    shop.pipe(shop.tap_csv({"entity": "orders", "path": "extract/o.csv"}), shop.target_csv(), DATESTAMP=D1)
    target = shop.target_postgres()
    both = shop.pipe(shop.tap_landed(sources=["postgres", "csv"]), target, check=False, EXTRACTED_AT=D1)
    assert both.returncode != 0
    assert "orders of source csv and public.orders of source postgres both map to table 'orders'" in both.text
    assert 'table_names: {csv: "csv.{table}"}' in both.text
    load(shop, D1)
    before = state(shop)
    later = shop.pipe(shop.tap_landed(sources=["csv"]), target, check=False, EXTRACTED_AT=D1)
    assert later.returncode != 0
    assert "public_history.orders belongs to source postgres" in later.text
    assert 'table_names: {csv: "csv.{table}"}' in later.text
    assert state(shop) == before


def test_streams_from_elsewhere_load_as_the_stock_target_does_it(shop):
    from conftest import BIN

    settings = shop.config(**{**shop.source.settings(), "ssl_enable": False, "filter_schemas": ["public"]})
    catalog = shop.folder / "catalog.json"
    stock = [str(BIN / "tap-postgres"), "--config", settings]
    discovered = subprocess.run([*stock, "--discover"], capture_output=True, text=True, check=True,
                                env=shop.environment())
    found = json.loads(discovered.stdout)
    for stream in found["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = True
    catalog.write_text(json.dumps(found))
    shop.pipe([*stock, "--catalog", str(catalog)], shop.target_postgres(default_target_schema="raw"))
    assert shop.warehouse.one("SELECT sum(order_id) FROM raw.orders") == 5050
    columns = {name for name, in shop.warehouse.run(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'raw.orders'::regclass AND attnum > 0")}
    assert {"order_id", "_sdc_batched_at", "_sdc_sequence"} <= columns
    assert shop.warehouse.run("SELECT 1 FROM pg_namespace WHERE nspname = 'raw_history'") == []
    direct = shop.pipe(shop.tap_postgres(), shop.target_postgres(), check=False, DATESTAMP=D1)
    assert direct.returncode != 0
    assert "use_batch: false" in direct.text


def test_a_reader_with_an_older_snapshot_sees_a_whole_date(shop):
    shop.land("2024-01-20")
    shop.load("2024-01-20")
    shop.source.run("DELETE FROM orders WHERE order_id > 50")
    shop.land("2024-01-21")
    reader = shop.warehouse.connect()
    reader.set_session(isolation_level="REPEATABLE READ", autocommit=False)
    with reader.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_class LIMIT 1")  # takes the snapshot, and no lock on the views
        shop.load("2024-01-21")
        cursor.execute("SELECT count(*) FROM public.orders")
        assert cursor.fetchone() == (50,)
    reader.close()
