"""The MeltanoLabs tap, for what few runs need: it checks its settings, and connects by URL, certificate or SSH tunnel.

It imports SQLAlchemy, which takes a quarter of a start. So only what needs it imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tap_postgres.tap import TapPostgres


class StockTap(TapPostgres):
    """The MeltanoLabs tap with its settings checked. It sets signal handlers."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config=dict(config), setup_mapper=False)  # a mapper would discover

    @property
    def dsn(self) -> str:
        """Connection string for libpq, through the SSH tunnel if one is configured."""
        _ = self.connector  # opens the tunnel, and sets the parameters
        return self.connection_parameters.render_as_psycopg2_dsn()
