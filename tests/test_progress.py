"""While rows are copied the log tells how many, how fast and how long it will take, and is not wrong about it."""

import logging
import random
import re

import pytest
from landing.core import progress as module
from landing.core.progress import Progress, RowCounter
from landing.extract.postgres import sizes

DAY = "2024-01-20"


@pytest.fixture
def clock(monkeypatch):
    """The time of Progress, in seconds."""
    class Clock:
        now = 1000.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now)
    return Clock


def table(**expected):
    return Progress(logging.getLogger("tap-postgres"), "public.events", **expected)


def test_progress_says_rows_bytes_rate_share_and_time_left(clock, caplog):
    with caplog.at_level(logging.INFO):
        progress = table(size=8_005)
        progress.advance(b"head\n")
        clock.now += 10
        progress.advance(b"line\n" * 400)
        assert caplog.messages == ["public.events: 400 rows, 0.0 MB, 40 rows/s, 0.0 MB/s, 25% done, 30 s left"]
        progress.advance(b"line\n" * 400)  # too soon after the last line
    assert len(caplog.messages) == 1


def test_it_says_something_within_three_seconds_then_every_five(clock, caplog):
    with caplog.at_level(logging.INFO):
        progress = table()
        progress.stream()
        said = []
        for _ in range(24):
            clock.now += 0.5
            progress.report()
            said.append(len(caplog.messages))
    assert said.index(1) * 0.5 < 3
    assert said[-1] == 3
    assert caplog.messages[0] == "public.events: no rows yet after 2 s"


CELLS = ["", "a", "a,b", 'say ""x""', "two\nlines", "\n\n\n", '""', '""\n""']


def test_rows_are_counted_and_not_line_feeds_wherever_chunks_are_cut():
    random.seed(7)
    for _ in range(300):
        rows = [",".join(f'"{random.choice(CELLS)}"' if random.random() < 0.6 else "1" for _ in range(3))
                for _ in range(random.randrange(6))]
        text = "".join(f"{row}\n" for row in ["a,b,c", *rows]).encode()
        counter, counted = RowCounter(), 0
        while text:
            size = random.randrange(1, 30)
            counted += counter.count(text[:size])
            text = text[size:]
            counter._chunks = 0  # so that no chunk is estimated
        assert counted == len(rows)


def test_rows_of_a_large_file_are_estimated_within_a_percent():
    chunk = b'1,"a, b and\nc"\n' * 10_000
    counter = RowCounter()
    counted = sum(counter.count(b"id,text\n" * first + chunk) for first in [1] + [0] * 99)
    assert abs(counted - 1_000_000) < 10_000


def test_files_of_one_table_are_counted_apart(clock):
    progress = table()
    one, other = progress.stream(), progress.stream()
    one(b'a\n"x\n')
    other(b"a\n1\n2\n")
    one(b'y"\n')
    assert progress.rows == 3


def test_a_table_that_waits_for_others_does_not_count_that_as_its_own_time(clock, caplog):
    progress = table()
    clock.now += 60  # until a connection is free
    progress.advance(b"a\n1\n")
    clock.now += 0.5
    progress.advance(b"2\n")
    clock.now += 60  # until tables before it are done
    with caplog.at_level(logging.INFO):
        progress.done(2)
    assert caplog.messages[-1] == "public.events: 2 rows, 6 bytes in 0.50 s"


@pytest.mark.parametrize("expected", [{"rows": 1}, {"size": 4}, {}, {"rows": None}, {"rows": 0}])
def test_without_a_good_estimate_no_time_is_promised(clock, expected):
    progress = table(**expected)
    progress.advance(b"a\n1\n2\n")
    clock.now += 5
    assert re.fullmatch(r"public\.events: 2 rows, 0\.0 MB, 0 rows/s, 0\.0 MB/s", str(progress))


FLUSH = "SELECT pg_stat_force_next_flush()"
STATES = {
    "analyzed": ("ANALYZE t", 20_000),
    "grown since": ("ANALYZE t;{flush};INSERT INTO t SELECT g, 'x' FROM generate_series(1, 20000) g", 40_000),
    "never analyzed": ("SELECT 1", 20_000),
    "mostly deleted since": ("ANALYZE t;{flush};DELETE FROM t WHERE id > 1000", 1_000),
    "statistics lost": ("ANALYZE t;{flush};SELECT pg_stat_reset()", 20_000),
    "partitioned": ("CREATE TABLE p (id integer, v text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p "
                    "FOR VALUES FROM (0) TO (9999999); INSERT INTO p SELECT * FROM t; ANALYZE p1; DROP TABLE t; "
                    "ALTER TABLE p RENAME TO t", 20_000),
}


@pytest.mark.parametrize("state", [*STATES])
def test_the_estimate_of_rows_is_good_or_there_is_none(project, state):
    change, rows = STATES[state]
    project.source.run("CREATE TABLE t (id integer, v text) WITH (autovacuum_enabled = off);"
                       "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 20000) g")
    for statement in [FLUSH, *change.format(flush=FLUSH).split(";"), FLUSH]:
        project.source.run(statement)
    with project.source.connection.cursor() as cursor:
        found = sizes.row_counts(cursor, [("public", "t")]).get(("public", "t"))
    assert found is None or rows / 3 <= found <= rows * 3
    assert (found is not None) == (state in ("analyzed", "grown since", "partitioned")), found


def test_a_query_that_returns_nothing_for_long_is_reported(inside, caplog):
    caplog.set_level(logging.INFO)
    inside.project.source.run("CREATE VIEW slow AS SELECT 1 AS one FROM (SELECT pg_sleep(2.5)) s")
    text = inside.extract(DAY).text
    assert "public.slow: no rows yet after 2 s" in text


def test_a_filtered_table_promises_no_time(inside, monkeypatch):
    inside.project.source.run("ANALYZE orders")
    seen = {}
    kept = Progress.__init__

    def noted(self, logger, what, **expected):
        seen[what] = expected.get("rows")
        kept(self, logger, what, **expected)

    monkeypatch.setattr(Progress, "__init__", noted)
    clause = {"custom_where_clauses": ["order_id < 10"]}
    inside.extract(DAY, stream_options={"public-orders": clause})
    assert seen["public.orders"] is None
