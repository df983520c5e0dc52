"""What may replace a landed partition: rules that are checked while the partition's lock is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from landing.core.commands import extract_command
from landing.core.errors import FrozenError, ZoneError
from landing.core.settings import flag
from landing.model.manifest import Manifest
from landing.zone.chains import require_whole
from landing.zone.landing_zone import LandingZone

KEPT = ("{} of {} is landed and past: kept as it is. Today's rows would overwrite that day's; to do so anyway, run "
        "again with REEXTRACT=true.")
LeftOut = Mapping[str, Sequence[str] | None]  # columns by stream, None for a whole stream


def check(zone: LandingZone, new: Manifest, began: datetime, left_out: LeftOut | None) -> None:
    """Refuse a partition that must not replace what is landed.

    Args:
        zone: Where it would be committed.
        new: Its manifest.
        began: Start of the run.
        left_out: What the source still has and the run did not send; None if the tap does not say.

    Raises:
        FrozenError: The landed partition stays as it is.
        ZoneError: `new` lacks tables or columns that the landed partition has.
    """
    source, day, reextract = new.source, new.extracted_at, flag("REEXTRACT")
    if zone.frozen(source, day, began):
        raise FrozenError(KEPT.format(source, day))
    require_whole(zone, new)
    before = zone.before(source, day)
    if before is None:
        return
    if before.extracted_at == day and before.taken_at > new.taken_at and not reextract:
        raise FrozenError(
            f"{source} of {day} is landed from a later snapshot ({before.taken_at:%Y-%m-%d %H:%M:%S} UTC) than this "
            f"run's ({new.taken_at:%Y-%m-%d %H:%M:%S} UTC): kept as it is. To replace it anyway, run again with "
            "REEXTRACT=true."
        )
    if not flag("ALLOW_FEWER_TABLES") and (lost := _lost(before, new, left_out)):
        refresh = ", or REFRESH MATERIALIZED VIEW at the source" if new.left_out else ""
        again = "REEXTRACT=true " if reextract else ""
        raise ZoneError(
            f"{source} of {day}: this run left out {', '.join(lost)}. {before.extracted_at} and the source still have "
            f"that. Nothing was committed. Select it (`select` in meltano.yml){refresh}, or leave it out on purpose: "
            f"ALLOW_FEWER_TABLES=true {again}{extract_command(source, day)}"
        )


def _lost(before: Manifest, new: Manifest, left_out: LeftOut | None) -> list[str]:
    """Tables of `before` that the source still has and `new` lacks; if `new` replaces `before`, also columns.

    If it is not known what the source has, everything in the replaced partition counts.
    """
    replaced = before.extracted_at == new.extracted_at
    had = {table.stream: {column.name for column in table.columns} for table in before.tables}
    why = {stream: f" ({reason})" for stream, reason in new.left_out.items()}
    if left_out is None:
        left_out = dict.fromkeys({*had} - {table.stream for table in new.tables}) if replaced else {}
    if replaced:
        left_out = {**left_out, **dict.fromkeys(why)}
    lost = [f"table {stream}{why.get(stream, '')}" for stream, columns in left_out.items()
            if stream in had and columns is None]
    if replaced:
        lost += [f"column {column} of {stream}" for stream, columns in left_out.items() if stream in had
                 for column in columns or () if column in had[stream]]
    return sorted(lost)
