"""Disks, servers, networks, rights and limits fail midway: a sentence, nothing harmed, and the next run heals."""

import codecs
import contextlib
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from conftest import databases, require_others_through, running
from faults import Disk, Proxy, account
from landing.core.dates import now, parse_date
from landing.core.errors import UnreachableError
from landing.extract.csv import entity
from landing.extract.postgres.snapshot import Snapshot
from landing.load import staging
from landing.load.history import HistoryTable
from landing.load.swap import Swap
from landing.load.warehouse import Warehouse
from landing.model.manifest import Manifest
from landing.model.naming import new_run_id
from landing.model.schema import Column, File, Table
from landing.postgres import connect as connect_module
from landing.postgres import copy
from landing.postgres import transaction as transaction_module
from landing.postgres.connect import KEEPALIVES, connect
from landing.postgres.copy import copy_out
from landing.postgres.transaction import LIMITS, PINS
from landing.singer.settings import DISK_HEADROOM
from landing.singer.sinks import FileSink
from landing.storage import hashing
from landing.storage.local import LocalStorage
from landing.zone.commit import commit
from landing.zone.landing_zone import LandingZone

DAY, NEXT = "2024-04-01", "2024-04-02"
AGAIN = f"MELTANO_ENVIRONMENT=extract SOURCE=postgres DATESTAMP={NEXT} meltano run extract_postgres"
LOAD_AGAIN = f"MELTANO_ENVIRONMENT=load SCHEMA=public EXTRACTED_AT={NEXT} meltano run load_to_postgres"
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


@pytest.fixture
def loaded(inside):
    """A date that is loaded; then the source changed, and has a table that takes more than a few pages."""
    return prepared(inside)


def prepared(inside):
    inside.project.source.run("CREATE TABLE big AS SELECT g AS id, repeat('x', 200) AS note "
                              "FROM generate_series(1, 2000) g; ALTER TABLE big ADD PRIMARY KEY (id); ANALYZE")
    for source in ("postgres", "csv"):
        inside.extract(DAY, source)
    inside.load(DAY)
    inside.project.source.run("DELETE FROM orders WHERE order_id > 50")
    return inside


def state(project_):
    """What readers see: landed files, tables and ledger."""
    loads = project_.warehouse.run("SELECT l::text FROM public_history._loads l ORDER BY 1")
    return project_.landed(), loads, [project_.rows(name) for name in ("orders", "notes", "big", "order_details")]


def unharmed(inside, run, *words):
    """What runs fails in these words; readers see what they saw, and no work in progress is left."""
    before = state(inside.project)
    result = run()
    assert result.returncode == 1
    for word in words:
        assert word in result.text, result.text
    assert state(inside.project) == before
    assert not [path for path in (inside.project.output / "_staging").glob("*") if path.is_dir()]


def healed(inside, day=NEXT):
    """The next ordinary run, and the proof."""
    for source in ("postgres", "csv"):
        inside.extract(day, source)
    inside.load(day)
    assert inside.proved(day)
    assert not inside.project.warehouse.run("SELECT 1 FROM pg_tables WHERE tablename LIKE '\\_staging%%'")


@contextlib.contextmanager
def just_before(monkeypatch, owner, name, fault, call=1):
    """Something happens just before a function is called for that time."""
    original, lock, calls = getattr(owner, name), threading.Lock(), []

    def with_fault(*arguments, **named):
        with lock:
            calls.append(1)
            if len(calls) == call:
                fault()
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, with_fault)
        yield
    assert len(calls) >= call, f"{name} was not called {call} times"


@contextlib.contextmanager
def mode(path, bits):
    """Change the rights of a file or folder for a while."""
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


# Disks


@pytest.fixture
def disk(inside):
    """The landing zone's own, small."""
    small = Disk(inside.project.output, "size=8m,nr_inodes=300")
    yield small
    small.remove()


@only_root
def test_a_disk_that_fills_up_anywhere_in_an_extract_leaves_the_old_date_and_the_next_run_heals(
        inside, disk, monkeypatch):
    prepared(inside)
    healed(inside)
    for owner, name, fill, settings in (
        (copy, "copy_out", lambda: disk.fill(leave=65536), {}),
        (copy, "copy_out", lambda: disk.fill(leave=65536), {"connections": 1}),
        (copy, "copy_out", disk.fill, {"compression": "gzip"}),
        (copy, "copy_out", disk.fill, {"compression": "zstd"}),
        (FileSink, "_start", lambda: disk.fill(leave=65536), {"use_batch": False}),
        (entity, "write_rows", disk.fill, {"source": "csv"}),
        (LocalStorage, "move", disk.fill_up_names, {}),
        (Manifest, "to_json", disk.fill, {}),
    ):
        again = AGAIN.replace("postgres", settings.get("source", "postgres"))
        with just_before(monkeypatch, owner, name, fill):
            unharmed(inside, lambda settings=settings: inside.extract(NEXT, check=False, **settings),
                     "No space left on device", str(inside.project.output), "`landing gc`", again)
        disk.empty()
        inside.extract(NEXT, **settings)
    healed(inside)


@only_root
def test_a_full_disk_ends_an_extract_at_once_and_not_when_the_server_has_sent_all(inside, disk):
    inside.project.source.run("CREATE VIEW endless AS SELECT repeat('x', 1000), generate_series(1, 100000000) AS n")
    for connections in (1, 2):
        begun = time.monotonic()
        said = inside.extract(DAY, check=False, connections=connections).text
        assert "No space left on device" in said
        assert time.monotonic() - begun < 60
    disk.empty()


@only_root
def test_an_extract_that_failed_for_want_of_room_gives_the_room_back(inside, disk, monkeypatch):
    inside.project.source.run("CREATE TABLE big AS SELECT repeat('x', 200) AS note FROM generate_series(1, 2000)")
    free = LandingZone.at(inside.project.output).storage.free()
    with just_before(monkeypatch, Manifest, "to_json", disk.fill):
        inside.extract(DAY, check=False)
    disk.empty()
    assert free - LandingZone.at(inside.project.output).storage.free() < 100_000
    assert not list(inside.project.output.glob("source=*/*"))


@only_root
def test_a_landing_zone_that_is_read_only_is_read_and_not_written(inside, disk):
    prepared(inside)
    disk.remount("ro")
    try:
        unharmed(inside, lambda: inside.extract(NEXT, check=False), "Read-only file system", "Make it writable", AGAIN)
        inside.load(DAY, reload=True)
        inside.load(DAY, reload=True, batches=False)
        assert inside.proved(DAY)
        for arguments in (["list"], ["show", DAY], ["plan", "--from", DAY, "--to", NEXT], ["gc"]):
            inside.landing(*arguments)
    finally:
        disk.remount("rw")
    healed(inside)


def test_what_the_user_may_not_read_or_write_is_named(loaded):
    project_ = loaded.project
    if os.geteuid() == 0:  # root may read and write all: become nobody, who needs a way to the project
        (project_.folder / "meltano.yml").chmod(0o644)
        (project_.folder / ".env").chmod(0o644)
        require_others_through(project_.folder)
        codecs.lookup("unicode_escape")  # nobody may be unable to read Python's own files

    def as_nobody(run):
        with account(65534) if os.geteuid() == 0 else contextlib.nullcontext():
            return run()

    path = project_.manifest_path("postgres", DAY)
    orders, = path.parent.glob("table=public-orders/*.csv")
    staging_folder = project_.output / "_staging"

    def extract():
        with mode(staging_folder, 0o500):
            return as_nobody(lambda: loaded.extract(NEXT, check=False))

    unharmed(loaded, extract, "Permission denied", str(staging_folder),
             "Grant this process's user access to it", AGAIN)
    for place in (path, orders, path.parent):
        with mode(place, 0):
            load = as_nobody(lambda: loaded.load(DAY, check=False, reload=True))
            verify = as_nobody(lambda: loaded.landing("verify", DAY, check=False))
            shown = as_nobody(lambda: loaded.landing("show", DAY, check=False))
            for command in ("list", "gc"):
                as_nobody(lambda command=command: loaded.landing(command, check=False))
        assert load.returncode == verify.returncode == 1
        assert "Permission denied" in load.text
        assert str(place) in load.text
        assert str(place) in verify.text
        assert place == orders or "Permission denied" in shown.text
    healed(loaded)


@only_root
def test_a_full_disk_in_the_warehouse_at_copy_key_or_swap_leaves_the_old_date(inside, own, monkeypatch):
    disk = Disk(own.home / "small", f"size=60m,uid={own.account.pw_uid},gid={own.account.pw_gid}")
    try:
        with databases(own) as make:
            make("of", own).run(f"CREATE TABLESPACE small LOCATION '{disk.path}'")
            inside.use(warehouse=make("warehouse", own, "TABLESPACE small"))
            wide = ", ".join(f"column_number_{number} integer" for number in range(400))
            prepared(inside)
            inside.project.source.run(f"CREATE TABLE wide ({wide})")
            for source in ("postgres", "csv"):
                inside.extract(NEXT, source)
            for owner, name, fill in ((copy, "copy_in", lambda: disk.fill(leave=32768)),
                                      (staging, "_add_key", disk.fill),
                                      (Swap, "publish", disk.fill)):
                with just_before(monkeypatch, owner, name, fill):
                    unharmed(inside, lambda: inside.load(NEXT, check=False), "No space left on device",
                             "PostgreSQL aborted the load", LOAD_AGAIN)
                disk.empty()
            healed(inside)
    finally:
        with contextlib.suppress(psycopg2.Error), contextlib.closing(own.connect("postgres")) as connection:
            connection.autocommit = True
            connection.cursor().execute("DROP TABLESPACE IF EXISTS small")
        disk.remove()


def test_a_source_that_cannot_fit_is_refused_before_anything_is_read(loaded, monkeypatch):
    for source, free, said in (("postgres", 100_000, "0.1 MB are free in"), ("csv", 10, "0.0 MB are free in")):
        again = AGAIN.replace("postgres", source)
        with monkeypatch.context() as patch:
            patch.setattr(LocalStorage, "free", lambda self, free=free: free)
            patch.setattr(copy, "copy_out", lambda *_: pytest.fail("it was read"))
            unharmed(loaded, lambda source=source: loaded.extract(NEXT, source, check=False),
                     "are expected to take about", said, f"`disk_headroom: 0` for tap-{source}", again)
        with monkeypatch.context() as patch:
            patch.setattr(LocalStorage, "free", lambda self, free=free: free)
            loaded.extract(NEXT, source, disk_headroom=0)
            if source == "postgres":  # how much of a table is read is not known
                loaded.extract(NEXT, max_record_count=10)
                loaded.extract(NEXT, stream_options={"public-big": {"custom_where_clauses": ["id < 10"]}})
                loaded.extract(NEXT, disk_headroom=0)
    loaded.load(NEXT)
    assert loaded.proved(NEXT)


SHAPES = {
    "numbers": "SELECT g AS a, g * 1e9::bigint AS b, g / 3.0::float8 AS c, now() AS d FROM generate_series(1, 5000) g",
    "text": "SELECT repeat('x', g % 300) AS a FROM generate_series(1, 5000) g",
    "long text": "SELECT repeat(md5(g::text), 200) AS a FROM generate_series(1, 300) g",
    "nulls": "SELECT NULL::integer AS a, NULL::text AS b FROM generate_series(1, 5000) g",
    "small": "SELECT g::smallint AS a, g % 2 = 0 AS b FROM generate_series(1, 5000) g",
}


def test_what_is_expected_of_a_table_never_keeps_out_one_that_fits(inside):
    """With the default headroom: whether the planner knows it or not, and after it was rewritten over and over."""
    source, headroom = inside.project.source, DISK_HEADROOM.default / 100
    for name, query in SHAPES.items():
        source.run("DROP TABLE IF EXISTS t; CREATE TABLE t WITH (autovacuum_enabled = off) AS " + query)
        reader = Snapshot(_dsn(source), ["public"], [("public", "t")], 1)
        true = copy_out(reader.connection, psycopg2.sql.SQL("SELECT * FROM t")).bytes
        expected = [reader.expected_bytes([("public", "t")])]
        reader.close()
        for change in ("ANALYZE t", "UPDATE t SET a = a; UPDATE t SET a = a; ANALYZE t"):
            source.run(change)
            reader = Snapshot(_dsn(source), ["public"], [("public", "t")], 1)
            expected.append(reader.expected_bytes([("public", "t")]))
            reader.close()
        assert max(expected[1:]) * headroom <= true, (name, expected, true)
        if name in ("numbers", "text"):
            assert min(expected) > 0.5 * true, (name, expected, true)
        if name not in ("nulls", "small"):  # narrow rows take more on the disk than as text; here nobody knows it yet
            assert expected[0] * headroom <= true, (name, expected, true)


def _dsn(database_):
    return psycopg2.extensions.make_dsn(host=database_.host, port=database_.port, dbname=database_.name,
                                        user=database_.user, password=database_.password)


# Servers


@pytest.fixture(scope="module")
def own():
    """A server that may be restarted."""
    with running(max_connections="40") as server:
        yield server


def restart(server, how):
    done = server._run("pg_ctl", "restart", "-w", "-m", how, "-D", server.data, "-l", server.log)
    assert done.returncode == 0, done.stderr


def test_a_source_that_restarts_midway_lands_nothing_and_the_next_run_heals(inside, own, monkeypatch):
    with databases(own) as make:
        inside.use(source=make("source", own))
        inside.project.source.run("CREATE TABLE orders AS SELECT g AS order_id FROM generate_series(1, 100) g;"
                                  "CREATE TABLE notes (n integer)")
        prepared(inside)
        for how, connections, call in (("fast", 2, 2), ("immediate", 2, 1), ("immediate", 1, 3)):
            with just_before(monkeypatch, copy, "copy_out", lambda how=how: restart(own, how), call):
                unharmed(inside, lambda count=connections: inside.extract(NEXT, check=False, connections=count),
                         AGAIN)
        inside.project.source.reconnect()
        healed(inside)


def test_a_warehouse_that_restarts_midway_shows_the_old_date_and_the_next_run_heals(inside, own, monkeypatch):
    with databases(own) as make:
        inside.use(warehouse=make("warehouse", own))
        prepared(inside)
        for source in ("postgres", "csv"):
            inside.extract(NEXT, source)
        for owner, name, how in ((copy, "copy_in", "immediate"), (staging, "_add_key", "fast"),
                                 (HistoryTable, "attach", "immediate")):
            def fault(how=how):
                restart(own, how)
                inside.project.warehouse.reconnect()

            with just_before(monkeypatch, owner, name, fault):
                unharmed(inside, lambda: inside.load(NEXT, check=False), LOAD_AGAIN)
        healed(inside)


# Networks


@contextlib.contextmanager
def proxied(database_):
    """The database, by a way that can be cut."""
    proxy, port = Proxy(database_.port), database_.port
    database_.port = proxy.port
    try:
        yield proxy
    finally:
        database_.port = port
        proxy.close()


def test_a_connection_that_is_cut_midway_harms_nothing(loaded, monkeypatch):
    project_ = loaded.project
    for connections, call in ((2, 1), (2, 3), (1, 2)):
        with proxied(project_.source) as proxy, just_before(monkeypatch, copy, "copy_out", proxy.cut, call):
            unharmed(loaded, lambda count=connections: loaded.extract(NEXT, check=False, connections=count), AGAIN)
    for source in ("postgres", "csv"):
        loaded.extract(NEXT, source)
    for owner, name in ((copy, "copy_in"), (HistoryTable, "attach")):
        with proxied(project_.warehouse) as proxy, just_before(monkeypatch, owner, name, proxy.cut):
            unharmed(loaded, lambda: loaded.load(NEXT, check=False), LOAD_AGAIN)
    healed(loaded)


def _longest(settings, prefix=""):
    """Seconds of silence until a connection is given up."""
    idle, interval, count = (int(settings[f"{prefix}keepalives_{name}"]) for name in ("idle", "interval", "count"))
    return idle + interval * count


SOON = {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2}


def test_a_source_that_falls_silent_is_given_up_and_not_waited_for_for_hours(loaded, monkeypatch):
    assert _longest(KEEPALIVES) <= 180
    monkeypatch.setattr(connect_module, "KEEPALIVES", KEEPALIVES | SOON)
    loaded.project.source.run("CREATE VIEW slow AS SELECT pg_sleep(60)::text AS x")
    with proxied(loaded.project.source) as proxy:
        begun = time.monotonic()
        with just_before(monkeypatch, copy, "copy_out", threading.Timer(1, proxy.fall_silent).start):
            unharmed(loaded, lambda: loaded.extract(NEXT, check=False), "could not be read completely", "timed out",
                     AGAIN)
        assert time.monotonic() - begun < 30
    loaded.project.source.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%slow%' "
                              "AND application_name = 'tap-postgres'; DROP VIEW slow")
    healed(loaded)


def test_a_warehouse_lets_go_of_the_lock_of_a_load_whose_machine_is_gone(inside, monkeypatch):
    """Else the next load would wait for it as long as TCP does: two hours and more."""
    assert _longest(PINS, "tcp_") <= 180
    monkeypatch.setattr(transaction_module, "PINS", PINS | {f"tcp_{name}": str(value) for name, value in SOON.items()})
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = " \
           "(SELECT oid FROM pg_database WHERE datname = current_database())"
    with proxied(inside.project.warehouse) as proxy:
        connection = connect(_dsn(inside.project.warehouse), "target-postgres")
        assert Warehouse(connection, "public", logging.getLogger("target-postgres")).lock.acquire(1)
        assert inside.project.warehouse.one(held) == 1
        proxy.fall_silent()
        deadline = time.monotonic() + 30
        while inside.project.warehouse.one(held):
            assert time.monotonic() < deadline, "the lock is held still"
            time.sleep(0.1)


def test_a_server_that_takes_connections_and_never_answers_is_given_up(monkeypatch):
    assert KEEPALIVES["connect_timeout"] <= 60
    monkeypatch.setattr(connect_module, "KEEPALIVES", {"connect_timeout": 2})
    with Proxy.silent() as port, pytest.raises(UnreachableError, match="timeout expired"):
        connect({"host": "127.0.0.1", "port": port, "dbname": "x", "user": "x"}, "tap-postgres")


# Limits and locks of servers


def limit(database_, **values):
    for name, value in values.items():
        if database_.run("SELECT 1 FROM pg_settings WHERE name = %s", name):
            database_.run(f'ALTER DATABASE "{database_.name}" SET {name} = \'{value}\'')


def test_time_limits_of_servers_do_not_end_a_copy_or_whoever_waits_for_it(loaded, monkeypatch):
    limits = dict.fromkeys(LIMITS, "300ms")
    loaded.project.source.run("CREATE VIEW slow AS SELECT pg_sleep(0.4)::text AS x FROM generate_series(1, 2)")
    for one in (loaded.project.source, loaded.project.warehouse):
        limit(one, **limits)
    loaded.extract(NEXT)
    loaded.extract(NEXT, "csv")
    with just_before(monkeypatch, copy, "copy_in", lambda: time.sleep(0.7)):
        loaded.load(NEXT)
    assert loaded.proved(NEXT)


def test_a_lock_timeout_of_the_source_is_kept_and_says_who_holds_the_table(loaded):
    project_ = loaded.project
    limit(project_.source, lock_timeout="200ms")
    with contextlib.closing(project_.source.connect()) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE orders; SELECT pg_backend_pid()")
        pid, = cursor.fetchone()
        unharmed(loaded, lambda: loaded.extract(NEXT, check=False), f"public.orders by pid {pid} (user tester)",
                 "run again")
    healed(loaded)


def test_a_snapshot_whose_connection_is_lost_commits_nothing_though_all_tables_were_read(loaded, monkeypatch):
    end = ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tap-postgres' "
           "AND state = 'idle in transaction' AND datname = current_database() AND query NOT LIKE 'COPY%%' "
           "AND query NOT LIKE 'BEGIN%%'")
    original = Snapshot.confirm

    def confirm(self):
        assert loaded.project.source.run(end)
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Snapshot, "confirm", confirm)
        unharmed(loaded, lambda: loaded.extract(NEXT, check=False), "failed at the source", AGAIN)
    healed(loaded)


# What people do meanwhile


def test_tables_that_change_between_discovery_and_copy_land_as_they_are_or_not_at_all(loaded):
    source = loaded.project.source
    source.run("CREATE TABLE goes (id integer)")
    unharmed(loaded, lambda: loaded.extract(NEXT, check=False, discovered=lambda: source.run("DROP TABLE goes")),
             "Table public.goes existed at discovery and no longer exists", AGAIN)
    change = ("ALTER TABLE orders ADD COLUMN added text DEFAULT 'new'; ALTER TABLE orders DROP COLUMN customer;"
              "ALTER TABLE orders ALTER order_id TYPE bigint; TRUNCATE notes")
    loaded.extract(NEXT, discovered=lambda: source.run(change))
    tables = {table["name"]: table for table in loaded.project.manifest("postgres", NEXT)["tables"]}
    assert [(column["name"], column["type"]) for column in tables["orders"]["columns"]] == [
        ("order_id", "bigint"), ("freight", "real"), ("added", "text")]
    assert (tables["orders"]["rows"], tables["notes"]["rows"]) == (50, 0)
    healed(loaded)


def test_a_right_that_is_revoked_midway_lands_nothing(loaded, monkeypatch):
    source = loaded.project.source
    source.run("CREATE ROLE reading LOGIN PASSWORD 'reading'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reading")
    rights = {"user": "reading", "password": "reading"}
    try:
        for call in (1, 3):
            with just_before(monkeypatch, copy, "copy_out",
                             lambda: source.run("REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM reading"), call):
                unharmed(loaded, lambda: loaded.extract(NEXT, check=False, **rights), "permission denied for table",
                         AGAIN)
            source.run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reading")
        source.run("REVOKE SELECT ON orders FROM reading")
        unharmed(loaded, lambda: loaded.extract(NEXT, check=False, **rights), "permission denied for table orders",
                 AGAIN)
        source.run("GRANT SELECT ON orders TO reading")
        loaded.extract(NEXT, **rights)
    finally:
        source.run("DROP OWNED BY reading; DROP ROLE reading")
    healed(loaded)


def test_extracts_of_one_date_at_once_leave_one_whole_date(tmp_path):
    landing, day = LandingZone.at(tmp_path), parse_date(DAY, "")

    def land(number):
        run, files, staged = new_run_id(), [], []
        for piece in range(3):
            staged.append(landing.staging(run) / f"{piece}.csv")
            with hashing.create(staged[-1]) as file:
                file.write(f"a\n{number}\n".encode())
            files.append(File.at(staged[-1], 1, file.size, f"{number:064}"))
        table = Table(stream="t", name="t", columns=[Column("a", "text")], primary_key=[], files=files)
        commit(landing, Manifest(source="s", extracted_at=day, run_id=run, taken_at=now(), seconds=1, snapshot={},
                                 software={}, tables=[table]), {"t": staged})
        landing.discard(run)

    for _ in range(10):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(land, range(4)))
        table, = landing.require("s", day).tables
        paths = [tmp_path / landing.file(landing.require("s", day), file).key for file in table.files]
        assert len({path.read_text() for path in paths}) == 1
        assert {*paths} == {*(tmp_path / "source=s" / f"extracted_at={DAY}").glob("table=*/*")}
    assert [path.name for path in (tmp_path / "_staging").iterdir()] == [f"s@{DAY}.lock"]


def test_clocks_and_formats_of_servers_and_machine_change_no_byte_and_no_date(loaded, monkeypatch):
    project_ = loaded.project
    project_.source.run("CREATE TABLE moments AS SELECT timestamptz '2024-03-31 01:30Z' + g * interval '20 min' AS at, "
                        "date '2024-01-05' + g AS day, g * interval '1 month 2 days 3.5 seconds' AS lasts, "
                        "'\\xdeadbeef'::bytea AS bytes, g / 3.0::float8 AS third FROM generate_series(1, 10) g")
    loaded.extract(DAY)
    plain = {table["name"]: table["files"][0]["sha256"] for table in project_.manifest("postgres", DAY)["tables"]}
    for one, zone_ in ((project_.source, "Pacific/Kiritimati"), (project_.warehouse, "America/St_Johns")):
        limit(one, TimeZone=zone_, DateStyle="SQL, DMY", IntervalStyle="iso_8601", bytea_output="escape",
              extra_float_digits="-3")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        healed(loaded)
    time.tzset()
    assert plain == {table["name"]: table["files"][0]["sha256"]
                     for table in project_.manifest("postgres", NEXT)["tables"]}
