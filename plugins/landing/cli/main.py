"""The `landing` command: what is landed and loaded, whether it agrees, what changed, what may go."""

from __future__ import annotations

import logging

import click

from landing.cli import certify, diff, drop, gc, list_, plan, show, verify
from landing.cli.options import logger
from landing.core.settings import exposed_env


class InOrder(click.Group):
    """Its help has the commands in the order of a day, not of the alphabet."""

    def list_commands(self, context: click.Context) -> list[str]:
        """As they are declared."""
        return list(self.commands)


@click.group(cls=InOrder)
def main() -> None:
    """Look at the landing zone and the warehouse: what is there, whether it agrees, what changed, what may go.

    Dates are UTC calendar dates, YYYY-MM-DD. Only `gc --yes` and `drop --yes` change anything.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if exposed := exposed_env():
        logger.warning("%s", exposed)


for command in (certify.certify, list_.list_, show.show, plan.plan, verify.verify, diff.diff, gc.gc, drop.drop):
    main.add_command(command)
