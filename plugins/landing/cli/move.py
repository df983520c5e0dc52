"""`landing move`: move tables to where the setting `table_names` has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click

from landing.cli.options import answered, as_json, locked_warehouse, output, with_schema
from landing.core.text import table
from landing.load.move import Move, Mover
from landing.zone.landing_zone import LandingZone


@click.command(short_help="Move tables to where `table_names` has them now.")
@click.option("--yes", is_flag=True, help="Move them. Without --yes, only list what would be moved.")
@as_json
@with_schema
def move(yes: bool, as_json: bool, schema: str) -> None:
    """Move loaded tables after `table_names` of target-postgres was changed.

    History, views and what people built on the views move in one transaction, under the new names. No row is copied.
    """
    with answered(as_json):
        moves, zone = list[Move](), LandingZone.configured()
        with locked_warehouse(schema, lambda warehouse: Mover(warehouse, zone).moves()) as warehouse:
            if warehouse:
                mover = Mover(warehouse, zone)
                moves = mover.moves()
                if yes and moves:
                    mover.run(moves)
        output(as_json, [asdict(one) | {"moved": yes} for one in moves], lambda: as_text(moves, yes))


def as_text(moves: Sequence[Move], done: bool) -> str:
    """Render the moves, with a summary."""
    if not moves:
        return "Nothing to move: all tables are where table_names has them."
    rows = [(one.source, ".".join(one.old), ".".join(one.new), one.dates, one.rows) for one in moves]
    end = (f"Moved {len(moves)} tables." if done else
           f"Would move {len(moves)} tables. Run again with --yes to move them.")
    return f"{table(('source', 'from', 'to', 'dates', 'rows'), rows)}\n{end}"
