"""`landing dbt-sources`: declare to dbt what is landed."""

from __future__ import annotations

from pathlib import Path

import click

from landing.cli.options import answered, logger, with_schema
from landing.core.errors import SettingError
from landing.core.settings import root
from landing.core.sources import declared_sources, table_names
from landing.load.table_names import TableNames
from landing.transform.sources import MARK, declaration, newest_manifests
from landing.zone.landing_zone import LandingZone

PLACE = "transform/models/sources.yml"


@click.command("dbt-sources", short_help="Declare to dbt the tables that are landed.")
@click.option("--to", "path", type=click.Path(path_type=Path), metavar="FILE",
              help=f"The file to write. Default: {PLACE}.")
@with_schema
def dbt_sources(path: Path | None, schema: str) -> None:
    """Write dbt's sources.yml from the newest manifest of each declared source.

    It has tables, columns, types, comments and keys, and how to tell from the load history whether a table is fresh.
    """
    with answered(False):
        path = path or root() / PLACE
        manifests = newest_manifests(LandingZone.configured(), declared_sources())
        text = declaration(manifests, TableNames(table_names(), schema))
        before = path.read_text("utf-8") if path.exists() else None
        if before is not None and not before.startswith(MARK):
            raise SettingError(f"{path} was not written by this command, which would replace it. Move what you added "
                               "to another file beside it, remove it, and run again.")
        if text != before:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        shown = ", ".join(f"{one.source} of {one.extracted_at}" for one in manifests)
        count = sum(len(one.tables) for one in manifests)
        logger.info("%s: %d tables, as in %s%s.", path, count, shown, "" if text != before else "; unchanged")
