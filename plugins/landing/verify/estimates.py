"""Expected durations of extracts and loads, from the durations in manifests and load history."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from landing.load.load_history import LoadedTables
from landing.model.manifest import Manifest

FIXED_COST_ROWS = 10_000  # below, a table's duration does not depend on its rows


class Estimates:
    """Durations, scaled to a number of rows. None where nothing was measured."""

    def __init__(self, manifests: Iterable[Manifest], loaded: Iterable[LoadedTables]) -> None:
        self._extracts: dict[str, list[tuple[int, float]]] = {}
        self._loads: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for manifest in manifests:
            self._extracts.setdefault(manifest.source, []).append((manifest.rows, manifest.seconds))
        for entry in (entry for tables in loaded for entry in tables.entries):
            if entry.seconds is not None:
                name = entry.source_table or entry.table
                self._loads.setdefault((entry.source, name), []).append((entry.rows, entry.seconds))

    def extract(self, source: str, rows: int) -> float | None:
        """Seconds for an extract of `rows` rows."""
        return _scaled(self._extracts.get(source, []), rows)

    def load(self, source: str, table: str, rows: int) -> float | None:
        """Seconds for COPY and key of a table of `rows` rows."""
        return _scaled(self._loads.get((source, table), []), rows)


def _scaled(measured: Sequence[tuple[int, float]], rows: int) -> float | None:
    """Median duration, scaled to `rows`."""
    durations = [seconds * rows / have if have >= FIXED_COST_ROWS else seconds for have, seconds in measured]
    return median(durations) if durations else None
