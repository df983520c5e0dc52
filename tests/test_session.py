"""A session stays one session, gives all rows and exact values in UTF-8, and ends when its server stalls."""

import contextlib
import itertools
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psycopg2
import pytest
from conftest import CANARY
from faults import Proxy
from landing.core.errors import PoolerError, SourceError, StalledError
from landing.load.warehouse import Warehouse
from landing.postgres import copy, session
from landing.postgres import stall as stall_module
from landing.postgres.connect import connect
from landing.postgres.copy import copy_out
from landing.postgres.worker_pool import WorkerPool
from landing.storage import hashing
from landing.storage.local import at
from psycopg2 import sql
from servers import free_port

DAY = "2024-01-20"
PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextlib.contextmanager
def pooled(database_, mode, **settings):
    """The database behind pgbouncer, in a folder that its own user may enter."""
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder:
        yield from _pooled(database_, Path(folder), mode, **settings)


def _pooled(database_, folder, mode, **settings):
    password = database_.password.replace("'", "''")
    port = free_port()
    values = {"listen_addr": "127.0.0.1", "listen_port": port, "auth_type": "any", "pool_mode": mode, "unix_socket_dir":
              "", "logfile": folder / "log", "pidfile": folder / "pid", "default_pool_size": 10, **settings}
    (folder / "ini").write_text(
        f"[databases]\n{database_.name} = host=127.0.0.1 port={database_.port} user={database_.user} "
        f"password='{password}'\n[pgbouncer]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
    command = [PGBOUNCER, str(folder / "ini")]
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", "nobody", str(folder)], check=True)
        command[1:1] = ["-u", "nobody"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    direct, deadline = database_.port, time.monotonic() + 30
    database_.port = port
    try:
        while True:
            try:
                psycopg2.connect(**database_.dsn()).close()
                break
            except psycopg2.OperationalError:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
        yield
    finally:
        database_.port = direct
        process.terminate()
        process.wait(30)


needs_pgbouncer = pytest.mark.skipif(not PGBOUNCER, reason="no pgbouncer here: apt-get install pgbouncer")


def no_locks_left(database_):
    return not database_.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
                             "(SELECT oid FROM pg_database WHERE datname = current_database())")


@needs_pgbouncer
@pytest.mark.parametrize("settings", [{}, {"server_round_robin": 1}, {"default_pool_size": 1}])
def test_transaction_pooling_is_refused_before_anything_is_set_or_locked(inside, settings):
    project = inside.project
    inside.extract(DAY)
    inside.extract(DAY, "csv")
    for owner, run in ((project.source, lambda: inside.extract("2024-01-21", check=False)),
                       (project.warehouse, lambda: inside.load(DAY, check=False))):
        with pooled(owner, "transaction", **settings):
            failed = run()
            with contextlib.closing(psycopg2.connect(**owner.dsn())) as connection, connection.cursor() as cursor:
                cursor.execute("SHOW row_security")
                assert cursor.fetchone() == ("on",)
        assert failed.returncode == 1
        assert "transaction pooling" in failed.text
        assert "pool_mode = session" in failed.text
        assert CANARY not in failed.text
    assert not project.manifest_path("postgres", "2024-01-21").exists()
    assert no_locks_left(project.warehouse)


@needs_pgbouncer
def test_session_pooling_lands_and_loads_all(inside):
    project = inside.project
    with pooled(project.source, "session"), \
            pooled(project.warehouse, "session", server_reset_query="", max_client_conn=50):
        for day in (DAY, "2024-01-21"):
            inside.extract(day)
            inside.extract(day, "csv")
            inside.load(day, load_lock_timeout=5)
        assert no_locks_left(project.warehouse), "the pool keeps the session that has the lock"
        others = [psycopg2.connect(**project.warehouse.dsn()) for _ in range(5)]
        for one in others:
            with one.cursor() as cursor:
                cursor.execute("SELECT current_setting('row_security'), current_setting('synchronous_commit')")
                assert cursor.fetchone() == ("on", "on"), "the next user of the pool has our settings"
            one.close()
    assert project.warehouse.one("SELECT count(*) FROM orders") == 100


@pytest.mark.parametrize(("ours", "others", "kept"), [
    ([7, 7, 7], [8, 8, 8], True),  # a session pool
    ([7, 7, 7], [7, 7, 7], False),  # what we leave, another gets
    ([7, 9, 7], [8, 8, 8], False),  # it changes from one statement to the next
])
def test_a_pooler_is_known_by_what_its_backends_do(shop, monkeypatch, ours, others, kept):
    with contextlib.closing(connect(shop.source.dsn(), "test")) as connection:
        pids = {True: itertools.cycle(ours), False: itertools.cycle(others)}
        monkeypatch.setattr(session, "backend_pid", lambda one: next(pids[one is connection]))
        connection.server_pid = 7  # which libpq was not told
        with contextlib.nullcontext() if kept else pytest.raises(PoolerError, match="use session pooling"):
            connection.require_session()


def test_pins_belong_to_the_transaction_that_reads(shop):
    """A pooler that nobody notices changes the session's settings between two statements."""
    shop.source.run("CREATE TABLE f (x double precision); INSERT INTO f VALUES (0.1::double precision * 3)")
    with contextlib.closing(connect(shop.source.dsn(), "test")) as connection, connection.cursor() as cursor:
        cursor.execute("RESET ALL; SET extra_float_digits = -5; SET DateStyle = 'German'; SET row_security = on")
        path = shop.folder / "f.csv"
        copy_out(connection, sql.SQL("SELECT x, date '2024-01-20' AS d, current_setting('row_security') AS r "
                                     "FROM f"), hashing.create(at(path)))
        assert path.read_text() == "x,d,r\n0.30000000000000004,2024-01-20,off\n"
        cursor.execute("SHOW DateStyle")
        assert cursor.fetchone()[0].startswith("German")


def test_a_backend_that_is_another_than_before_is_refused(shop, monkeypatch):
    with contextlib.closing(connect(shop.warehouse.dsn(), "test")) as connection:
        connection.server_pid += 1
        house = Warehouse(connection, "public", logging.getLogger("test"))
        with pytest.raises(PoolerError, match="transaction pooling"):
            house.lock.acquire(1)


def test_a_load_names_the_session_that_holds_the_lock_and_its_wait_ends(inside, caplog):
    inside.extract(DAY)
    inside.extract(DAY, "csv")
    caplog.set_level("INFO")
    with contextlib.closing(inside.project.warehouse.connect()) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('landing'), hashtext('public')), pg_backend_pid()")
        pid = cursor.fetchone()[1]
        begun = time.monotonic()
        failed = inside.load(DAY, check=False, load_lock_timeout=1)
        assert time.monotonic() - begun < 60
        assert failed.returncode == 1
        assert f"waiting for another load of schema public: pid {pid}, user tester" in failed.text
        assert f"Another load is running in schema public (pid {pid}" in failed.text
    inside.load(DAY)


# Encodings

def encoded(make_database, prefix, encoding):
    return make_database(prefix, options=f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")


def test_names_comments_and_values_of_a_latin1_source_and_warehouse_are_kept(inside, make_database):
    source, house = (encoded(make_database, prefix, "LATIN1") for prefix in ("source", "warehouse"))
    source.run('CREATE TABLE "größe" ("fläche" text PRIMARY KEY); COMMENT ON TABLE "größe" IS \'Maß\';'
               "INSERT INTO \"größe\" VALUES ('é'), ('ü')")
    inside.use(source, house)
    inside.extract(DAY)
    table, = inside.project.manifest("postgres", DAY)["tables"]
    assert (table["name"], table["comment"], table["columns"][0]["name"]) == ("größe", "Maß", "fläche")
    inside.extract(DAY, "csv")
    inside.load(DAY)
    assert house.run('SELECT "fläche" FROM "größe" ORDER BY 1') == [("é",), ("ü",)]
    assert house.one("SELECT obj_description('\"größe\"'::regclass)") == "Maß"
    source.run("INSERT INTO \"größe\" VALUES ('a')")
    inside.project.csv("order_details.csv", "order_id,product_id,note\n1,2,漢\n")
    inside.extract("2024-01-21")
    inside.extract("2024-01-21", "csv")
    failed = inside.load("2024-01-21", check=False)
    assert failed.returncode == 1
    assert 'has no equivalent in encoding "LATIN1"' in failed.text


def test_of_a_database_without_encoding_utf8_is_kept_and_other_bytes_are_refused(inside, make_database):
    source, house = (encoded(make_database, prefix, "SQL_ASCII") for prefix in ("source", "warehouse"))
    source.connection.set_client_encoding("UTF8")
    source.run("CREATE TABLE t (id integer, v text); INSERT INTO t VALUES (1, 'größe')")
    inside.use(source, house)
    inside.extract(DAY)
    inside.extract(DAY, "csv")
    inside.load(DAY)
    assert inside.proved(DAY)
    source.run("SET client_encoding = 'SQL_ASCII'; INSERT INTO t VALUES (2, E'gr\\xf6\\xdfe')")
    landed = inside.project.landed()
    failed = inside.extract(DAY, check=False)
    assert failed.returncode == 1
    assert 'Table public.t could not be read completely: invalid byte sequence for encoding "UTF8"' in failed.text
    source.run("TRUNCATE t; COMMENT ON TABLE t IS E'gr\\xf6\\xdfe'")
    failed = inside.extract(DAY, check=False)
    assert failed.returncode == 1
    assert "SQL_ASCII" in failed.text
    assert "public.t" in failed.text
    assert inside.project.landed() == landed


# Stalls

def stall(connection, query, after=lambda: None):
    """Run a query that stalls; seconds until its end."""
    with connection.cursor() as cursor:
        begun = time.monotonic()
        threading.Timer(0.5, after).start()
        with pytest.raises(StalledError) as stalled:
            cursor.execute(query)
    return time.monotonic() - begun, str(stalled.value)


def test_a_server_that_sends_nothing_is_given_up(shop, monkeypatch):
    monkeypatch.setattr(stall_module, "QUERY_TIMEOUT", 2.0)
    proxy = Proxy(shop.source.port)
    try:
        dsn = {**shop.source.dsn(), "port": proxy.port}
        connection = connect(dsn, "test", stall_timeout=2)
        seconds, said = stall(connection, "SELECT pg_sleep(1)", proxy.stop_reading)
    finally:
        proxy.close()
    assert seconds < 60
    assert "stalled: no byte sent or received for 2 s (stall_timeout), and a second connection" in said
    assert CANARY not in said


@contextlib.contextmanager
def silenced(owner, monkeypatch, name, module=copy):
    """The server behind a way that stops as soon as a function is called."""
    original, proxy, direct = getattr(module, name), Proxy(owner.port), owner.port
    owner.port = proxy.port

    def stop_then(*arguments, **named):
        proxy.stop_reading()
        return original(*arguments, **named)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(stall_module, "QUERY_TIMEOUT", 1.0)
            patch.setattr(module, name, stop_then)
            yield
    finally:
        owner.port = direct
        proxy.close()


@pytest.mark.timeout(60)
def test_a_server_that_stalls_at_the_first_statement_of_a_session_is_given_up(shop, monkeypatch):
    with silenced(shop.source, monkeypatch, "backend_pid", session), \
            pytest.raises(StalledError, match="no byte sent or received for 1 s"):
        connect(shop.source.dsn(), "test", stall_timeout=1)


def test_an_extract_and_a_load_end_with_a_sentence_when_their_server_stalls(inside, monkeypatch):
    project = inside.project
    for source in ("postgres", "csv"):
        inside.extract(DAY, source)
    landed = project.landed()
    with silenced(project.source, monkeypatch, "copy_out"):
        failed = inside.extract(DAY, check=False, stall_timeout=1)
    assert failed.returncode == 1
    assert "stalled: no byte sent or received for 1 s" in failed.text
    assert "Nothing of 2024-01-20 was committed. Then run: MELTANO_ENVIRONMENT=extract" in failed.text
    assert project.landed() == landed
    with silenced(project.warehouse, monkeypatch, "copy_in"):
        failed = inside.load(DAY, check=False, stall_timeout=1)
    assert failed.returncode == 1
    assert "stalled: no byte sent or received for 1 s" in failed.text
    assert "Nothing was loaded. Run again: MELTANO_ENVIRONMENT=load" in failed.text
    project.warehouse.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
                          "datname = current_database() AND application_name = 'target-postgres'")
    inside.load(DAY)
    assert inside.proved(DAY)


def test_work_without_a_byte_is_not_a_stall(shop):
    with contextlib.closing(connect(shop.source.dsn(), "test", stall_timeout=1)) as connection:
        copied = copy_out(connection, sql.SQL("SELECT 1 AS x FROM pg_sleep(5)"))
    assert copied.rows == 1


def test_a_backend_that_was_stopped_while_it_sends_is_given_up(shop):
    """Its state says that it waits for us, and we wait for it."""
    connection = connect(shop.source.dsn(), "test", stall_timeout=1)
    read = threading.Event()

    class Slow:
        def write(self, _):
            if not read.is_set():
                time.sleep(1.5)  # until the server waits for us
                os.kill(connection.server_pid, signal.SIGSTOP)
                read.set()

    try:
        with connection.cursor() as cursor, pytest.raises(StalledError, match="waits for the client"):
            cursor.copy_expert("COPY (SELECT repeat('x', 100000) FROM generate_series(1, 1000)) TO STDOUT", Slow())
    finally:
        os.kill(connection.server_pid, signal.SIGCONT)


def test_the_first_failure_ends_what_runs_on_a_shared_connection_without_spinning(shop):
    shared = connect(shop.source.dsn(), "test")
    slow = sql.SQL("SELECT pg_sleep(120)::text AS x")
    started = threading.Event()

    def wait_long(_):
        started.set()
        copy_out(shared, slow)

    def fail(_):
        started.wait(10)
        time.sleep(0.5)
        raise SourceError("first")

    begun, cpu = time.monotonic(), time.process_time()
    both = WorkerPool(2, lambda: connect(shop.source.dsn(), "test"), [shared])
    slow_work, _ = both.submit(wait_long), both.submit(fail)
    with pytest.raises(SourceError, match="first"):
        both.result(slow_work)
    both.close()
    assert time.monotonic() - begun < 60
    assert time.process_time() - cpu < 2
    deadline = time.monotonic() + 30
    while shop.source.one("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(120)%%' AND pid <> "
                          "pg_backend_pid() AND state = 'active'"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
