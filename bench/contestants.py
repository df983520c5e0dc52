"""Who takes part, in the order of their runs."""

from __future__ import annotations

from contestant import Contestant
from csv_files import DuckDBContract, DuckDBCsvFile, LandingContract, LandingCsv
from data import ROOT
from others import Dlt, DuckDB, DuckDBCsv, Singer, SingerBest, Sling
from ours import Landing, LandingGzip, LandingOne, LandingProtected, LandingZstd, Trivial
from psql import PgDump, Psql, PsqlTwice
from stores import DltStore, LandingStore, SlingStore

EVERYBODY: dict[str, type[Contestant]] = {
    "psql1": Psql, "psql2": PsqlTwice, "landing": Landing, "trivial": Trivial, "duckdb": DuckDB,
    "duckdb-csv": DuckDBCsv, "landing1": LandingOne, "landing-zstd": LandingZstd, "landing-gzip": LandingGzip,
    "landing-protected": LandingProtected,
    "pg_dump": PgDump, "dlt": Dlt, "sling": Sling, "singer": Singer, "singer-best": SingerBest,
    "landing-store": LandingStore, "dlt-store": DltStore, "sling-store": SlingStore,
    "landing-csv": LandingCsv, "landing-contract": LandingContract, "duckdb-file": DuckDBCsvFile,
    "duckdb-contract": DuckDBContract,
}
SHORT = ("psql1", "psql2", "landing", "trivial", "duckdb")


def available() -> list[str]:
    """All but those whose setting ours doesn't have."""
    settings = (ROOT / "meltano.yml").read_text()
    return [name for name, one in EVERYBODY.items() if getattr(one, "setting", "name") in settings]
