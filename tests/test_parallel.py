"""Several connections at once: large tables go in pieces, of one snapshot, and a date is the same date all the same."""

import signal
import subprocess
import threading
import time

import pytest
from conftest import databases, in_the_background, running

DAY = "2024-01-20"
ROWS = 400_000


@pytest.fixture
def large(project):
    """A project whose source has a table that is large enough for two pieces."""
    project.source.run(
        "CREATE TABLE events (id bigint PRIMARY KEY, kind integer NOT NULL, note text);"
        "INSERT INTO events SELECT g, g % 7, CASE WHEN g % 9 > 0 THEN repeat('x', 150 + g % 40) END "
        f"FROM generate_series(1, {ROWS}) g;"
        "ANALYZE events"
    )
    return project


def land(project, **settings):
    """Land the table with these settings of the tap, and give its files."""
    project.pipe(project.tap_postgres(**settings), project.target_csv(), DATESTAMP=DAY, REEXTRACT="true")
    partition = project.manifest_path("postgres", DAY).parent
    table, = project.manifest("postgres", DAY)["tables"]
    return [(partition / file["path"], file) for file in table["files"]]


def load(project, **settings):
    return project.pipe([*project.tap_landed(sources=["postgres"])], project.target_postgres(**settings),
                        EXTRACTED_AT=DAY)


def verify(project, check=True):
    (project.folder / "meltano.yml").write_text("jobs:\n- name: extract_postgres\n")
    return project.landing("verify", DAY, check=check)


def test_pieces_put_together_are_what_one_connection_gives(large):
    pieces = [path.read_bytes() for path, _ in land(large, connections=2)]
    whole, = (path.read_bytes() for path, _ in land(large, connections=1))
    header = b"id,kind,note\n"
    assert len(pieces) == 2
    assert header + b"".join(piece.removeprefix(header) for piece in pieces) == whole


def test_pieces_load_side_by_side_and_the_date_is_proved(large):
    land(large)
    load(large)
    assert "1 of 1 tables equal, 400,000 rows." in verify(large).stdout
    assert large.rows("events") == sorted(row for row in large.source.run("SELECT e::text FROM events e"))
    key = "SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass AND indisprimary"
    assert large.warehouse.one(key, f'public_history."events@{DAY}"') == 1


def test_key_builds_may_use_as_many_server_processes_as_there_are_connections(project):
    project.source.run("CREATE TABLE small (id integer PRIMARY KEY)")
    land(project)
    project.warehouse.run("""
CREATE TABLE seen (workers text, memory text);
CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.seen SELECT current_setting('max_parallel_maintenance_workers'),
                                   current_setting('maintenance_work_mem');
END $$;
CREATE EVENT TRIGGER note ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION note();
""")
    load(project, connections=5)
    assert ("5", "256MB") in project.warehouse.run("SELECT * FROM seen")
    project.warehouse.run("ALTER DATABASE {} SET max_parallel_maintenance_workers = 7".format(
        project.warehouse.one("SELECT quote_ident(current_database())")))
    load(project, connections=5, reload=True)
    assert ("7", "256MB") in project.warehouse.run("SELECT * FROM seen")


def test_all_pieces_are_of_one_moment_while_the_source_changes(large):
    connection = large.source.connect()
    first, last = 1, ROWS

    def move():
        """From the first row to the last one, and so from piece to piece, in one transaction."""
        with connection.cursor() as cursor:
            cursor.execute("BEGIN; UPDATE events SET kind = kind - 1 WHERE id = %s;"
                           "UPDATE events SET kind = kind + 1 WHERE id = %s; COMMIT", (first, last))

    before = large.source.one("SELECT sum(kind) FROM events")
    with in_the_background(move):
        for _ in range(3):
            files = land(large)
            lines = [line.split(b",") for path, _ in files for line in path.read_bytes().splitlines()[1:]]
            assert len(files) == 2
            assert len(lines) == ROWS
            assert sum(int(line[1]) for line in lines) == before
    connection.close()


def test_who_waits_to_alter_a_table_does_not_hang_the_extract(project):
    project.source.run("CREATE TABLE small (id integer); INSERT INTO small VALUES (1), (2);"
                       "CREATE VIEW a_slow AS SELECT 1 AS x FROM pg_sleep(3);"
                       "CREATE VIEW b_slow AS SELECT 1 AS x FROM pg_sleep(3)")
    locked = ("SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation AND c.relname = 'small' "
              "WHERE l.granted AND l.mode = 'AccessShareLock' AND l.pid <> pg_backend_pid()")
    altering = project.source.connect()

    def alter():
        while not project.source.one(locked):
            time.sleep(0.01)
        with altering.cursor() as cursor:
            cursor.execute("ALTER TABLE small ADD COLUMN later text")  # waits until the extract has ended

    thread = threading.Thread(target=alter)
    thread.start()
    project.land(DAY, "postgres")
    thread.join()
    altering.close()
    tables = {table["name"]: table["rows"] for table in project.manifest("postgres", DAY)["tables"]}
    assert tables == {"a_slow": 1, "b_slow": 1, "small": 2}
    assert project.source.one("SELECT count(*) FROM information_schema.columns WHERE table_name = 'small'") == 2


def test_a_reader_with_an_older_snapshot_finds_the_new_date_whole(large):
    land(large)
    reader = large.warehouse.connect()
    reader.autocommit = False
    reader.set_session(isolation_level="REPEATABLE READ")
    with reader.cursor() as cursor:
        cursor.execute("SELECT 1")  # from here on it has its snapshot
        said = load(large, lock_timeout=2).text
        cursor.execute("SELECT count(*) FROM public.events")
        assert cursor.fetchone() == (ROWS,)
    reader.close()
    assert "copied again, over one connection" in said
    assert "1 of 1 tables equal" in verify(large).stdout


def test_a_rewritten_table_is_still_proved_and_a_changed_row_is_not(large):
    land(large)
    load(large)
    large.source.run("ALTER TABLE events ALTER COLUMN kind TYPE bigint")
    large.land("2024-01-21", "postgres")
    large.pipe(large.tap_landed(sources=["postgres"]), large.target_postgres(), EXTRACTED_AT="2024-01-21")
    assert "1 of 1 tables equal" in verify(large).stdout
    large.warehouse.run("UPDATE public_history.events SET kind = kind + 1 WHERE id = 250000 AND extracted_at = %s", DAY)
    wrong = verify(large, check=False)
    assert wrong.returncode != 0
    assert "events" in wrong.stderr


def test_one_failing_table_ends_all_others_and_leaves_nothing(large):
    large.source.run("CREATE VIEW a_broken AS SELECT 1 / (id - 1) AS x FROM events;"
                     "CREATE VIEW b_slow AS SELECT pg_sleep(600)::text AS x")
    begun = time.monotonic()
    failed = large.land(DAY, "postgres", check=False)
    assert failed.returncode != 0
    assert "Table public.a_broken could not be read completely: division by zero" in failed.text
    assert time.monotonic() - begun < 300
    assert not large.manifest_path("postgres", DAY).exists()
    assert not list((large.output / "_staging").glob("2*"))
    active = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tap-postgres' AND datname = %s"
    deadline = time.monotonic() + 30
    while large.source.one(active, large.source.name):
        assert time.monotonic() < deadline, "a connection of the tap is still at work"
        time.sleep(0.1)


def test_a_load_that_is_killed_among_pieces_is_healed_by_the_next(large):
    land(large)
    target = subprocess.Popen(large.target_postgres(), cwd=large.folder, stdin=subprocess.PIPE,
                              env=large.environment(MELTANO_PROJECT_ROOT=str(large.folder), EXTRACTED_AT=DAY),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tap = subprocess.Popen(large.tap_landed(sources=["postgres"]), cwd=large.folder, stdout=target.stdin,
                           env=large.environment(MELTANO_PROJECT_ROOT=str(large.folder), EXTRACTED_AT=DAY),
                           stderr=subprocess.DEVNULL)
    target.stdin.close()
    staged = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND query LIKE 'COPY%%' AND state = 'active'"
    while target.poll() is None and not large.warehouse.one(staged, large.warehouse.name):
        time.sleep(0.005)
    target.kill()
    target.wait()
    tap.wait()
    assert target.returncode == -signal.SIGKILL
    assert not large.warehouse.one("SELECT to_regclass('public.events') IS NOT NULL")
    load(large)
    assert "1 of 1 tables equal" in verify(large).stdout
    left = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public_history' AND tablename LIKE '\\_staging%%'"
    assert large.warehouse.one(left) == 0


def test_too_few_locks_are_named_with_what_to_raise_and_leave_nothing(project):
    few_locks = {"max_locks_per_transaction": "10", "max_connections": "20"}
    with running(**few_locks) as small, databases(small) as make:
        few = make("few", small)
        partitions = "".join(f"CREATE TABLE t{{0}}_{part} PARTITION OF t{{0}} FOR VALUES IN ({part});"
                             for part in range(10))
        for number in range(400):
            project.source.run(f"CREATE TABLE t{number} (id integer PRIMARY KEY)")
        for number in range(250):
            few.run(f"CREATE TABLE t{number} (id integer) PARTITION BY LIST (id);{partitions.format(number)}")
        settings = {**few.settings(), "filter_schemas": ["public"]}
        source = project.pipe(project.tap_postgres(**settings), project.target_csv(), False, DATESTAMP=DAY)
        project.land(DAY, "postgres")
        project.warehouse = few
        warehouse = project.pipe(project.tap_landed(sources=["postgres"]),
                                 project.target_postgres(default_target_schema="copy"), False, EXTRACTED_AT=DAY)
        left = few.run("SELECT tablename FROM pg_tables WHERE schemaname = 'copy_history'")
    for failed in (source, warehouse):
        assert failed.returncode != 0
        assert "Raise max_locks_per_transaction" in failed.text
    assert left == [("_loads",)]
