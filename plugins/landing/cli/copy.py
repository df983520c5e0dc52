"""`landing copy`: bring landed dates to another root."""

from __future__ import annotations

import click

from landing.cli.options import answered, as_json, output
from landing.cli.partitions import as_text, each, raise_failed, wanted, with_all, with_days, with_root, with_source
from landing.core.settings import keep_private, place
from landing.zone.copy import PartitionCopy, refuse_same_root
from landing.zone.landing_zone import LandingZone

HEAD = ("source", "extracted_at", "tables", "rows", "bytes", "outcome")
STILL_HERE = ("They are still here, too. To go on there, set LANDING_ROOT; then remove the files here. (`landing drop` "
              "would remove the dates from the warehouse as well.)")


@click.command(short_help="Copy dates to another landing root, verified.")
@with_days
@with_root
@with_all
@with_source
@click.option("--replace", is_flag=True, help="Replace dates that are there from another run, or damaged.")
@as_json
def copy(days: tuple[str, ...], root: str, every: bool, source: str | None, replace: bool, as_json: bool) -> None:
    """Copy landed dates to another landing root, with the same files, hashes and run ids.

    Every file is hashed as it is read here and read back there; a source's date is committed there whole or not at
    all. What is there already from the same run stays as it is, so a copy that was interrupted is run again.
    """
    with answered(as_json):
        keep_private([])
        origin, target = LandingZone.configured(), LandingZone.at(place(root, "--to "))
        refuse_same_root(origin, target)
        found = each(wanted(origin, days, source, every),
                     lambda *one: PartitionCopy(origin, target, *one, replace=replace).run())
        to = target.storage.describe()
        output(as_json, {"to": to, "partitions": found}, lambda: as_text(to, found, HEAD, STILL_HERE))
        raise_failed(found)
