"""The options of bench/run.py, and the plan that they ask for."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from contestant import LOAD_KEY, PHASES
from contestants import EVERYBODY, QUICK, SHORT, chosen
from plan import Plan

RESULTS = Path(__file__).resolve().parent / "results"
SIZES = (1_000_000, 6_000_000, 20_000_000)
WORDS = {"load with key": LOAD_KEY, "load-with-key": LOAD_KEY}


def numbers(text: str) -> list[int]:
    """Numbers with commas between; 0 is none."""
    found = [int(word.replace("_", "")) for word in text.split(",")]
    if min(found) < 0:
        raise ValueError
    return sorted({*found} - {0})


def phases(text: str) -> list[str]:
    asked = [WORDS.get(word.strip(), word.strip()) for word in text.split(",")]
    if unknown := {*asked} - {*PHASES}:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join((*PHASES, *WORDS))}")
    return [phase for phase in PHASES if phase in asked]


def names(text: str) -> list[str]:
    try:
        return chosen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def arguments(about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--all", action="store_true", help="everybody, 20 M rows, 1,000 tables and wide rows, too")
    kind.add_argument("--short", action="store_true", help="1 M rows, one round, psql, DuckDB and us")
    kind.add_argument("--only", type=names, metavar="NAME,...", help=", ".join(EVERYBODY))
    parser.add_argument("--rounds", type=int, help="3; 1 of slow tools, some at 6 M rows, and all at 10 M and more")
    parser.add_argument("--rows", type=numbers, metavar="N,...", help="rows of lineitem; 0: none")
    parser.add_argument("--csv-rows", type=int, default=1_000_000, metavar="N", help="rows of the CSV file")
    parser.add_argument("--tables", type=numbers, metavar="N,...", help="also so many tables of ten rows each")
    parser.add_argument("--phases", type=phases, metavar="PHASE,...", help=", ".join(PHASES))
    parser.add_argument("--no-startup", action="store_true", help="whole runs only, nothing net of starting up")
    parser.add_argument("--limit", type=float, metavar="SECONDS", help="end a command after so long")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--name", help="part of the file's name, after the date")
    parser.add_argument("--render", type=Path, metavar="FILE.json", help="only write the report of a result anew")
    return parser.parse_args()


def planned(given: argparse.Namespace) -> Plan:
    """What the options ask for."""
    usual = SIZES[:1] if given.short else SIZES if given.all else SIZES[:2]
    who = given.only or (EVERYBODY if given.all else SHORT if given.short else QUICK)
    tables = given.tables if given.tables is not None else [1_000] * given.all
    return Plan(who=tuple(EVERYBODY[name] for name in who), phases=tuple(given.phases or PHASES),
                sizes=usual if given.rows is None else tuple(given.rows),
                rounds=given.rounds or (1 if given.short else 3), csv_rows=given.csv_rows, tables=tuple(tables),
                wide=given.all, named=bool(given.only), repeat_large=bool(given.rounds), startup=not given.no_startup)


def file_name(given: argparse.Namespace) -> str:
    """What is not the usual run never overwrites the result of one."""
    special = given.only or given.rows or given.tables or given.phases or given.rounds
    name = given.name or ("all" if given.all else "short" if given.short else "some" if special else "")
    return f"{date.today()}{'-' * bool(name)}{name}.json"
