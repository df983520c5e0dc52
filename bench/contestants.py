"""Who takes part, in the order of their runs."""

from __future__ import annotations

from contestant import Contestant
from csv_files import DuckDBContract, DuckDBCsvFile, LandingContract, LandingCsv
from object_stores import DltStore, LandingStore, SlingStore
from others import Dlt, DuckDB, DuckDBCsv, Singer, SingerBest, Sling
from ours import Landing, LandingGzip, LandingOne, LandingProtected, LandingZstd, Trivial
from psql import PgDump, Psql, PsqlTwice

EVERYBODY: dict[str, type[Contestant]] = {
    "psql1": Psql, "psql2": PsqlTwice, "landing": Landing, "trivial": Trivial, "landing-store": LandingStore,
    "landing-protected": LandingProtected, "duckdb": DuckDB,
    "landing-csv": LandingCsv, "landing-contract": LandingContract, "duckdb-file": DuckDBCsvFile,
    "duckdb-contract": DuckDBContract,
    "duckdb-csv": DuckDBCsv, "landing1": LandingOne, "landing-zstd": LandingZstd, "landing-gzip": LandingGzip,
    "pg_dump": PgDump, "dlt": Dlt, "sling": Sling, "singer": Singer, "singer-best": SingerBest,
    "dlt-store": DltStore, "sling-store": SlingStore,
}
SHORT = ("psql1", "psql2", "landing", "trivial", "duckdb")
QUICK = tuple(name for name, one in EVERYBODY.items() if not one.slow)


def chosen(text: str) -> list[str]:
    """Those of a list with commas, in our order. Raises ValueError."""
    asked = text.split(",")
    if unknown := [name for name in asked if name not in EVERYBODY]:
        raise ValueError(f"{', '.join(unknown)}: choose from {', '.join(EVERYBODY)}")
    return [name for name in EVERYBODY if name in asked]
