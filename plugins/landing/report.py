"""What the `landing` command shows in a terminal: tables and sentences from what the other modules found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any

from landing import certify, plan, project, proof
from landing.attempts import Attempt
from landing.certify import Verdict
from landing.changes import TableChange
from landing.errors import printable
from landing.ledger import Entry
from landing.plan import DatePlan
from landing.proof import TableProof
from landing.retention import Leftover
from landing.zone import Manifest


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns as wide as they need, numbers to the right; None is a dash."""
    text = [["-" if cell is None else f"{cell:,}" if isinstance(cell, int) else printable(str(cell)) for cell in row]
            for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *text]) for i in range(len(head))]
    right = [any(isinstance(row[i], int) for row in rows) and all(isinstance(row[i], int | None) for row in rows)
             for i in range(len(head))]
    lines = [
        "  ".join(cell.rjust(width) if to_right else cell.ljust(width)
                  for cell, width, to_right in zip(line, widths, right, strict=True)).rstrip()
        for line in [list(head), ["-" * width for width in widths], *text]
    ]
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """Bytes as people say them."""
    return f"{count:,} bytes" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def moment(when: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{when:%Y-%m-%d %H:%M:%S}"


# certify


def certified(verdicts: Sequence[Verdict], everything: bool, warehouse: str | None) -> str:
    """Columns and tables that are not lossless, or all; `warehouse` is its server's version, if it could be asked."""
    shown = [one for one in verdicts if everything or one.verdict != certify.LOSSLESS]
    rows = [(f"{one.schema}.{one.table}", one.column, one.verdict, one.type, one.loads_as, one.reason or "")
            for one in shown]
    counts = Counter(one.verdict for one in verdicts)
    tables = len({(one.schema, one.table) for one in verdicts})
    columns = sum(one.column is not None for one in verdicts)
    asked = f"PostgreSQL {warehouse} at the warehouse" if warehouse else "the warehouse was not asked"
    words = (f"{tables} tables, {counts[certify.REFUSED]} of them refused; {columns:,} columns of the others: "
             f"{counts[certify.LOSSLESS]:,} lossless, {counts[certify.AS_TEXT]:,} as text ({asked}).")
    head = ("table", "column", "verdict", "type", "loads as", "why")
    return f"{table(head, rows)}\n{words}" if rows else words


# list

LISTED = ("source", "extracted_at", "tables", "rows", "bytes", "taken_at", "run_id", "loaded")


def listed(lines: Sequence[dict[str, Any]]) -> str:
    """Landed dates."""
    rows = [[line[name] for name in LISTED] for line in lines]
    for row, line in zip(rows, lines, strict=True):
        row[-1] = f"damaged: {line['damaged']}" if line["damaged"] else line["loaded"]
    return table(("source", "extracted_at", "tables", "rows", "bytes", "taken at (UTC)", "run", "loaded"), rows)


# show


def shown(day: date, source: str, manifest: Manifest | None, problem: str | None, entries: Sequence[Entry],
          tried: Sequence[Attempt]) -> str:
    """A source's date."""
    parts = [f"{source} of {day}: {_landed(source, day, manifest, problem)}"]
    if manifest:
        loads = {entry.table: entry for entry in entries}
        rows = [(one.name, one.rows, one.bytes, one.sha256[:12], *_loaded(manifest, loads.get(one.name)))
                for one in manifest.tables]
        parts.append(table(("table", "rows", "bytes", "sha256", "loaded at (UTC)", "from run"), rows))
        parts += [f"{one.name}: {one.quarantine.rows:,} bad rows, not among these, in {one.quarantine.path}"
                  for one in manifest.tables if one.quarantine]
    if tried:
        rows = [(one.started_at, one.ended_at, f"{one.outcome} ({one.error})" if one.error else one.outcome,
                 one.landed or one.run_id) for one in tried]
        parts.append(table(("attempt began (UTC)", "ended", "outcome", "run"), rows))
    return "\n".join(parts)


def _landed(source: str, day: date, manifest: Manifest | None, problem: str | None) -> str:
    if problem:
        return f"damaged. {problem}"
    if manifest is None:
        return f"not landed. {project.extract_command(source, day)}"
    about = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in manifest.snapshot.items())
    took = f", in {duration(manifest.seconds)}" if manifest.seconds is not None else ""
    return (f"{len(manifest.tables)} tables, {manifest.rows:,} rows, {manifest.bytes:,} bytes\n"
            f"run {manifest.run_id}, taken at {moment(manifest.taken_at)} UTC{took}" + (f"; {about}" if about else ""))


def _loaded(manifest: Manifest, entry: Entry | None) -> tuple[str | None, str | None]:
    if entry is None:
        return None, None
    return moment(entry.loaded_at), "this one" if entry.run_id == manifest.run_id else entry.run_id


def described(source: str, manifest: Manifest | None, problem: str | None, entries: Sequence[Entry],
              tried: Sequence[Attempt]) -> dict[str, Any]:
    """The same for programs: all of the hashes, and the ledger's word for each table."""
    loads = {one.table: {"loaded_at": one.loaded_at.isoformat(), "run_id": one.run_id, "rows": one.rows,
                         "sha256": one.sha256, "seconds": one.seconds} for one in entries}
    found = {"source": source, "landed": manifest is not None, "damaged": problem, "loaded": loads,
             "attempts": [asdict(one) for one in tried]}
    if manifest:
        found |= {"run_id": manifest.run_id, "taken_at": manifest.taken_at.isoformat(), "seconds": manifest.seconds,
                  "snapshot": manifest.snapshot, "tables": [
                      {"stream": one.stream, "table": one.name, "rows": one.rows, "bytes": one.bytes,
                       "sha256": one.sha256, "quarantine": one.quarantine and one.quarantine.to_dict()}
                      for one in manifest.tables]}
    return found


# plan


def planned(plans: Sequence[DatePlan]) -> str:
    """Dates with what a backfill would do, and all of it together."""
    rows = [(str(one.day), one.state, ", ".join(one.of(plan.EXTRACT)) or "-", _load(one), duration(one.seconds),
             _why(one)) for one in plans]
    return f"{table(('date', 'state', 'extract', 'load', 'time', ''), rows)}\n{_total(plans)}"


def _load(one: DatePlan) -> str:
    tables = f"{len(one.tables)} tables" if one.tables else "yes"
    return {plan.LOAD: tables, plan.NOTHING: "-", plan.UNKNOWN: "unknown", plan.REFUSE: "refused"}[one.load]


def _why(one: DatePlan) -> str:
    kept = [] if one.load in (plan.NOTHING, plan.UNKNOWN) else one.of(plan.KEEP)
    to_text = f"becomes text for all dates: {', '.join(one.to_text)}" if one.to_text else ""
    return "; ".join(filter(None, [one.why, f"{', '.join(kept)} kept as landed" if kept else "", to_text,
                                   *one.refusals]))


def total(plans: Sequence[DatePlan]) -> dict[str, Any]:
    """Dates, extracts and loads to run, seconds as far as they are known, and dates of which they aren't."""
    return {
        "dates": len(plans), "extract": sum(len(one.of(plan.EXTRACT)) for one in plans),
        "load": sum(one.load == plan.LOAD for one in plans), "refused": sum(one.load == plan.REFUSE for one in plans),
        "seconds": sum(one.seconds or 0 for one in plans),
        "seconds_unknown": sum(one.seconds is None for one in plans),
    }


def _total(plans: Sequence[DatePlan]) -> str:
    sums = total(plans)
    unknown, known = sums["seconds_unknown"], len(plans) - sums["seconds_unknown"]
    time = duration(sums["seconds"]) if known else "unknown"
    more = f", and {unknown} of them without a figure" if unknown and known else ""
    refused = f" ({sums['refused']} refused)" if sums["refused"] else ""
    return (f"{sums['dates']} dates: {sums['extract']} extracts, {sums['load']} loads{refused}; {time}{more}, "
            "besides Meltano's own start of each.")


# verify

EQUAL = {proof.BYTES: "yes", proof.ROWS: "yes: rows, in any order", proof.VALUES: "yes: values, by their types here"}


def proved(proofs: Sequence[TableProof]) -> str:
    """Tables with their three hashes."""
    head = ("source", "table", "rows", "bytes", "sha256: source", "files", "warehouse", "equal")
    rows = [
        (one.source, one.table, one.rows, one.bytes, *((value or "-")[:12] for value in
                                                       (one.landed, one.files, one.warehouse)),
         EQUAL[one.compared] if one.holds else f"NO: {one.problem}")
        for one in proofs
    ]
    equal = sum(one.holds for one in proofs)
    return f"{table(head, rows)}\n{equal} of {len(proofs)} tables equal, {sum(one.rows for one in proofs):,} rows."


def mending(wrong: Sequence[TableProof], day: date, schema: str) -> str:
    """What differs, and what mends it: files that are damaged are landed again, a warehouse that differs is loaded."""
    names = ", ".join(f"{one.source}.{one.table} ({one.problem})" for one in wrong)
    commands = [
        f"REEXTRACT=true {project.extract_command(source, day)}"
        for source in sorted({one.source for one in wrong if one.files != one.landed})
    ]
    commands.append(f"RELOAD=true {project.load_command(day, schema)}")
    return f"{day} is not proved: {names}. To mend it: {' && '.join(commands)}"


# diff


def compared(before: date, after: date, changes: Sequence[TableChange]) -> str:
    """Tables with what changed in them, then the rows that are to be shown."""
    head = ("source", "table", f"rows {before}", f"rows {after}", "inserted", "updated", "deleted", "unchanged", "")
    rows = [(one.source, one.table, one.rows_before, one.rows_after, one.inserted,
             one.updated if one.key else None, one.deleted, one.unchanged, one.note)
            for one in changes]
    sums = [sum(getattr(one, name) for one in changes) for name in ("inserted", "updated", "deleted", "unchanged")]
    words = "{:,} rows inserted, {:,} updated, {:,} deleted, {:,} unchanged.".format(*sums)
    return "\n".join([table(head, rows), words, *(_rows(one) for one in changes if one.rows)])


def _rows(one: TableChange) -> str:
    """A changed row in a line: which, and what of it changed."""
    lines = [f"\n{printable(f'{one.source}.{one.table}')}:"]
    for row in one.rows:
        values = row.after or row.before
        shown = [name for name in values if name in (one.key or values)]
        which = ", ".join(f"{printable(name)}={_value(values[name])}" for name in shown)
        if row.before and row.after:
            said = [f"{printable(name)}: {_value(row.before[name])} -> {_value(row.after[name])}" for name in values
                    if row.before[name] != row.after[name]]
            which += "  " + ", ".join(said)
        lines.append(f"  {row.change:8}  {f'{row.count} times: ' if row.count > 1 else ''}{which}")
    return "\n".join(lines)


def _value(text: str | None) -> str:
    if not text:
        return "NULL" if text is None else "''"
    line = printable(text)
    return line if len(line) <= 40 else line[:39] + "…"


# gc


def swept(found: Sequence[tuple[Leftover, str]], done: bool) -> str:
    """What would go, or went."""
    if not found:
        return "Nothing to remove."
    rows = [(one.kind, one.what, one.bytes, one.rows, f"STAYS: {problem}" if problem else one.why)
            for one, problem in found]
    gone = [one for one, problem in found if not problem]
    sums = f"{len(gone)} things, {size(sum(one.bytes for one in gone))}, {sum(one.rows or 0 for one in gone):,} rows"
    end = f"Removed {sums}." if done else f"Would remove {sums}. To do so, run again with --yes."
    return f"{table(('kind', 'what', 'bytes', 'rows', 'why'), rows)}\n{end}"

