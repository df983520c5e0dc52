"""From the streams that a target received to the tables of a manifest and the source that they belong to."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import date
from importlib.metadata import version

from landing.core.commands import extract_command
from landing.core.errors import SettingError
from landing.core.sources import checked_source, source_name
from landing.model.schema import File, Table
from landing.singer.completion import Completion, Sent
from landing.singer.sinks import FileSink

PACKAGES = ("landing", "singer-sdk", "meltanolabs-tap-postgres", "psycopg2-binary", "duckdb")


def source_of(setting: str | None, sinks: Iterable[FileSink], completion: Completion | None, day: date) -> str:
    """The source that a run lands, as the tap resolved it.

    Raises:
        SettingError: The tap's streams name several sources, or the target is configured for another one.
    """
    names = {sink.stream_metadata.source for sink in sinks
             if not sink.stream_metadata.extracted_at}  # a stream with a date is landed already
    names |= {completion and completion.source}
    names = {checked_source(name) for name in names if name}
    if len(names) > 1:
        raise SettingError(f"The tap sends streams of several sources ({', '.join(sorted(names))}); a run lands one. "
                           "Nothing was committed. Run each by a job of its own.")
    name = source_name(setting, next(iter(names), None))
    if names and name not in names:
        raise SettingError(
            f"The tap lands source {names.pop()}, but target-csv is configured for source {name}. Nothing was "
            f"committed. Set `source` for the tap only, and run again: {extract_command(name, day)}"
        )
    return name


def table_of(sink: FileSink, files: list[File], sent: Sent | None) -> Table:
    """The manifest's entry for a stream. `sent`: what the completion message says of it."""
    metadata, names = sink.stream_metadata, {column.name for column in sink.columns}
    return Table(
        stream=sink.stream_name,
        name=metadata.table or sink.stream_name,
        schema=metadata.schema,
        columns=sink.columns,
        primary_key=[name for name in sink.key_properties if name in names],
        files=files,
        comment=metadata.comment,
        # The text of another vendor's tap need not be PostgreSQL's own.
        declared_types=metadata.declared_types or not sink.ours,
        foreign_keys=metadata.foreign_keys,
        quarantine=metadata.quarantine,
        converted=metadata.converted,
        lossy=metadata.lossy,
        duplicates=metadata.duplicates,
        not_of_snapshot=metadata.not_of_snapshot,
        dropped=metadata.dropped,
        increment=sent and sent.increment,
        appended=bool(sent and sent.appended),
        cursor=sent and sent.cursor,
        full_because=sent and sent.full_because,
    )


def software() -> dict[str, str]:
    """Versions of Python and of the packages that decide what is landed."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
