"""The `landing` command."""

from __future__ import annotations

import logging

import click

from landing.cli import (
    certify,
    copy,
    dbt_sources,
    diff,
    drop,
    export,
    gc,
    key,
    list_,
    move,
    plan,
    rename,
    reveal,
    show,
    status,
    verify,
)
from landing.cli.options import logger
from landing.core.settings import exposed_env


class InOrder(click.Group):
    """Lists the commands in the order of use instead of the alphabet."""

    def list_commands(self, context: click.Context) -> list[str]:
        """In the order of declaration."""
        return list(self.commands)


@click.group(cls=InOrder)
@click.version_option(package_name="landing", prog_name="landing", message="%(prog)s %(version)s")
def main() -> None:
    """Inspect the landing zone and the warehouse: list, verify, compare, clean up.

    Dates are UTC calendar dates, YYYY-MM-DD. `copy` and `export` write to another root, `dbt-sources` a file for dbt.
    Only `gc`, `drop`, `move` and `rename` change anything in this one or in the warehouse, and only with `--yes`.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if exposed := exposed_env():
        logger.warning("%s", exposed)


for command in (certify.certify, list_.list_, status.status, show.show, plan.plan, verify.verify, diff.diff, copy.copy,
                export.export, dbt_sources.dbt_sources, key.key, reveal.reveal,
                gc.gc, drop.drop, move.move, rename.rename):
    main.add_command(command)
