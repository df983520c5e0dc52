"""The blocks of docs/scale.md: what was measured, and what follows from it by arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from figures import EXTRACT, LABELS, LIMIT, LOAD, LOAD_KEY, OURS, VERIFY, Figures, Spread
from goals import USUAL
from published import Published, rate, short, spread, table

DATA = f"lineitem_{USUAL}"
ROWS = 5_400_000_000  # of lineitem in 1 TB of heap


def facts(results: Published) -> list[str]:
    """Each with the result that it is from."""
    return table(("", "", ""), _facts(results))


def _facts(results: Published) -> Iterator[Sequence[str]]:
    if figures := results.best("empty", EXTRACT, OURS):
        taken = [spread(Spread.of(figures.seconds(OURS, "empty", phases).values()), " s")
                 for phases in (EXTRACT, LOAD_KEY)]
        yield "a `meltano run` of ours that moves nothing: extract, load", ", ".join(taken), _of(results, figures)
    for phases in (EXTRACT, LOAD_KEY, VERIFY):
        if figures := results.best(DATA, phases, OURS):
            yield _speed(figures, phases), _rows(figures, phases), _of(results, figures)
    yield from _growth(results)
    yield from _small(results)
    for who, label in (("landing, store", "files in an S3 server in memory on the loopback, to a folder"),
                       ("landing, zstd", "compressed with zstd, to plain"), ("landing, gzip", "with gzip, to plain")):
        for phases in (EXTRACT, LOAD_KEY):
            if figures := results.best(DATA, phases, who, OURS):
                yield (f"6 M rows, {LABELS[phases]}, {label}: times the rate, whole and net",
                       ", ".join(spread(figures.faster(who, OURS, DATA, phases, net)) for net in (False, True)),
                       _of(results, figures))
    for who in ("dlt, store", "sling, store"):
        for phases in (EXTRACT, LOAD):
            if figures := results.best(DATA, phases, who):
                yield (f"6 M rows, {LABELS[phases]}, {who}: seconds, whole and net", ", ".join(
                    spread(Spread.of(figures.seconds(who, DATA, phases, net).values())) for net in (False, True)),
                    _of(results, figures))
    yield from _memory(results)


def _speed(figures: Figures, phases: tuple[str, ...]) -> str:
    return f"{LABELS[phases]}, 6 M rows of 16 columns (0.9 GB as CSV): rows/s net of start-up"


def _rows(figures: Figures, phases: tuple[str, ...]) -> str:
    ours, limit = (figures.rate(who, DATA, phases, True) for who in (OURS, LIMIT))
    megabytes = ours * (figures.median(OURS, DATA, "extract", "bytes") or 0) / figures.rows(DATA) / 1e6 if ours else 0
    more = f" (psql on two connections: {rate(limit)})" if limit else ""
    return f"{rate(ours)}" + f", {megabytes:,.0f} MB/s of CSV" * bool(megabytes) + more


def _growth(results: Published) -> Iterator[Sequence[str]]:
    for rows in results.sizes():
        for phases in (EXTRACT, LOAD_KEY):
            large = f"lineitem_{rows}"
            figures = results.best(large, phases, OURS) if rows > USUAL else None
            if figures and (grown := figures.growth(OURS, DATA, large, phases, True)
                            or figures.growth(OURS, DATA, large, phases)):
                whole = Spread.of(figures.seconds(OURS, large, phases).values())
                yield (f"{rows:,} rows, {LABELS[phases]}: whole run; a row to one at 6 M",
                       f"{spread(whole, ' s')}; {spread(grown)}", _of(results, figures))


def _small(results: Published) -> Iterator[Sequence[str]]:
    for data, tables in _tables(results):
        figures = results.best(data, EXTRACT, OURS)
        for phases in (EXTRACT, LOAD_KEY):
            whole = Spread.of(figures.seconds(OURS, data, phases).values())
            if whole:
                net = whole.middle - (figures.fixed(OURS, phases[0]) or 0)
                yield (f"{tables:,} small tables, {LABELS[phases]}: whole run; a table, net",
                       f"{spread(whole, ' s')}; {net / tables * 1000:.1f} ms", _of(results, figures))


def _tables(results: Published) -> list[tuple[str, int]]:
    """Data sets of many tables, and of how many."""
    found = {data: one.rows(data) // 10 for one in results.results for data in one.datasets("small")
             if one.seconds(OURS, data, EXTRACT)}
    return sorted(found.items(), key=lambda one: one[1])


def _memory(results: Published) -> Iterator[Sequence[str]]:
    for data, label in ((DATA, "6 M rows"), ("wide", "rows of up to 16 MB")):
        figures = results.best(data, EXTRACT, OURS)
        peaks = [(peak, name) for run in figures.runs if run["contestant"] == OURS and run["data"] == data
                 for name, peak in run["peaks"].items() if name.startswith("landing")] if figures else []
        if peaks:
            peak, name = max(peaks)
            yield f"memory of our largest process, {label}", f"{peak:,.0f} MB ({name})", _of(results, figures)


def terabyte(results: Published) -> list[str]:
    """1 TB, by arithmetic."""
    rates = {phases: figures.rate(OURS, DATA, phases, True) for phases in (EXTRACT, LOAD_KEY, VERIFY)
             if (figures := results.best(DATA, phases, OURS))}
    hours = {phases: ROWS / found / 3600 for phases, found in rates.items() if found}
    guess = {EXTRACT: "4 times that speed: {:.1f} h; the network would take 0.2 h",
             LOAD_KEY: "rows by 8 connections; the key by PostgreSQL's parallel workers: about a quarter, {:.1f} h",
             VERIFY: "about a quarter, {:.1f} h"}
    names = {EXTRACT: "extract", LOAD_KEY: "load, rows and key", VERIFY: "verify"}
    rows = ([names[phases], f"5.4 billion / {rate(rates[phases])}: {found:.1f} h", guess[phases].format(found / 4)]
            for phases, found in hours.items())
    head = ("step", "2 cores, as measured", "16 cores at source and warehouse, `connections: 8`, 10 Gbit/s between")
    return table(head, rows)


def many(results: Published) -> list[str]:
    """10,000 tables: measured, or ten times what 1,000 took."""
    found = _tables(results)
    data, tables = max(found, key=lambda one: one[1])
    figures = results.best(data, EXTRACT, OURS)
    rows = []
    for phases, why in ((EXTRACT, "each table has its SCHEMA and BATCH message, its COPY, its file and two fsyncs"),
                        (LOAD_KEY, "a staging table, its key, its place in history and its view")):
        whole, start = figures.median(OURS, data, phases[0], "seconds"), figures.fixed(OURS, phases[0]) or 0
        if whole:
            more = f"{start + (whole - start) * 10_000 / tables:,.0f} s: " * (tables != 10_000)
            rows.append([LABELS[phases], f"{short(whole)} s", more + why])
    return table(("", f"{tables:,} tables, measured", "10,000" if tables != 10_000 else ""), iter(rows))


def _of(results: Published, figures: Figures) -> str:
    return results.source(figures, "../")


BLOCKS = (facts, terabyte, many)
