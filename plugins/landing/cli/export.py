"""`landing export`: landed dates as Parquet."""

from __future__ import annotations

import click

from landing.cli.options import answered, as_json, output
from landing.cli.partitions import as_text, each, raise_failed, wanted, with_all, with_days, with_root, with_source
from landing.core.settings import keep_private, place
from landing.zone.copy import refuse_same_root
from landing.zone.landing_zone import LandingZone

HEAD = ("source", "extracted_at", "tables", "rows", "bytes", "as text", "outcome")


@click.command(short_help="Export dates as typed Parquet to another root.")
@with_days
@with_root
@click.option("--format", "kind", type=click.Choice(["parquet"]), default="parquet", show_default=True,
              help="Format of the files.")
@with_all
@with_source
@as_json
def export(days: tuple[str, ...], root: str, kind: str, every: bool, source: str | None, as_json: bool) -> None:
    """Export landed dates as typed Parquet to another root, in the landing zone's layout, with manifests of its own.

    The landed files are verified as they are read. A source's date is replaced there as a whole, and only if it was
    landed again. Columns that Parquet or its readers cannot hold are text; the log and the manifest say which and why.
    """
    from landing.export.export import PartitionExport, refuse_landing_zone  # here: other commands need no DuckDB

    with answered(as_json):
        keep_private([])
        origin, target = LandingZone.configured(), LandingZone.at(place(root, "--to "))
        refuse_same_root(origin, target)
        refuse_landing_zone(target)
        found = each(wanted(origin, days, source, every), lambda *one: PartitionExport(origin, target, *one).run())
        to = target.storage.describe()
        shown = [{**one, "as text": one.get("as_text")} for one in found]
        output(as_json, {"to": to, "format": kind, "partitions": found}, lambda: as_text(to, shown, HEAD, ""))
        raise_failed(found)
