"""Streams that have their rows in files, and send the files (BATCH) or their rows (RECORD)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from singer_sdk.singerlib import RecordMessage, SchemaMessage

from landing.model.schema import Column, Table
from landing.singer import stream_maps, types
from landing.singer.completion import Sent
from landing.singer.metadata import ENCODING, StreamMetadata
from landing.singer.scratch import scratch
from landing.singer.sdk import BaseBatchFileEncoding, BatchConfig, SdkStream, StorageTarget
from landing.singer.types import json_schema
from landing.storage.base import Object, Prefix
from landing.storage.local import LocalStorage


@dataclass(frozen=True)
class Extract:
    """A table and the files that hold its rows, in order."""

    table: Table
    objects: list[Object]


class LandingStream(SdkStream):
    """A stream that has its rows in files of our dialect, and sends the files or their rows.

    Subclasses give `stream_metadata`, `table` and `extract()`.
    """

    constants: Mapping[str, str] = {}  # properties that are the same in every row

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent: dict[str, Sent] = {}  # by stream, or by its alias in a stream map

    @property
    def table(self) -> Table:
        """Columns and key as they are sent."""
        raise NotImplementedError

    @property
    def stream_metadata(self) -> StreamMetadata:
        """What the SCHEMA says of the table besides its columns."""
        table = self.table
        return StreamMetadata(schema=table.schema, table=table.name, comment=table.comment,
                              foreign_keys=table.foreign_keys, not_of_snapshot=table.not_of_snapshot,
                              dropped=table.dropped)

    def extract(self, folder: Prefix) -> Extract:
        """The table's files: new ones in `folder`, or landed ones."""
        raise NotImplementedError

    def selected_columns(self, columns: Sequence[Column]) -> list[Column]:
        """The columns that the catalog does not deselect."""
        return [column for column in columns if self.mask["properties", column.name]]

    @cached_property
    def mapped(self) -> bool:
        """Whether stream maps change this stream's rows: see stream_maps.py."""
        return stream_maps.is_mapped(self)

    def get_batch_config(self, config: Mapping[str, Any]) -> BatchConfig | None:
        """Encoding csv, which the SDK's own setting does not know; None to send RECORDs."""
        if self.mapped or not config.get("use_batch", True):
            return None
        return BatchConfig(BaseBatchFileEncoding(ENCODING), StorageTarget(self.tap.landing_zone.storage.url("")))

    def get_batches(self, batch_config: BatchConfig, context: Any = None) -> Iterator[tuple[Any, list[str]]]:
        """The table's files."""
        extract = self.extract(self.tap.staging)
        self.sent[self.name].note(extract.table)
        self.sent[self.name].rows += extract.table.rows
        self.sent[self.name].files += extract.table.files
        yield batch_config.encoding, [one.url for one in extract.objects]

    def get_records(self, context: Any) -> Iterator[dict[str, Any]]:
        """The same rows as records, for third-party targets."""
        with scratch() as folder:
            extract = self.extract(Prefix(LocalStorage(Path(folder)), ""))
            for sent in self.sent.values():
                sent.note(extract.table)
            for one in extract.objects:
                yield from types.records(one, extract.table.columns, self.constants)

    def conform(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Hook: add properties to the SCHEMA."""
        return schema

    def write_state(self) -> None:
        """Only with a bookmark: each STATE names all tables before it, which is slow with a thousand tables."""
        if self.replication_key:
            super().write_state()

    def schema_messages(self) -> Iterator[SchemaMessage]:
        for message in map(self._mapped_message, super().schema_messages()) if self.mapped else [
                self._schema_message()]:
            self.sent[message.stream] = Sent(0, [])
            yield message

    def _schema_message(self) -> SchemaMessage:
        table = self.table
        properties = {column.name: json_schema(column) for column in table.columns}
        schema = self.conform({"type": "object", "properties": properties,
                               **self.stream_metadata.to_schema()})
        bookmarks = [self.replication_key] if self.replication_key else None
        return SchemaMessage(self.name, schema, self.message_keys(table), bookmarks)

    def _mapped_message(self, message: SchemaMessage) -> SchemaMessage:
        """The SDK's SCHEMA of a mapped stream with this table's metadata; an alias is a separate table."""
        table = self.table
        properties = stream_maps.properties(self, table, message.schema["properties"])
        metadata = msgspec.structs.replace(
            self.stream_metadata, table=table.name if message.stream == self.name else message.stream,
            mapped=sorted(stream_maps.changed_columns(self) & {*properties}), declared_types=True,
            # The map may have another key than the table.
            primary_key=[name for name in message.key_properties or [] if name not in self.constants])
        message.schema = self.conform({**message.schema, "properties": properties, **metadata.to_schema()})
        return message

    def record_messages(self, record: dict[str, Any]) -> Iterator[RecordMessage]:
        for message in super().record_messages(record):
            self.sent[message.stream].rows += 1
            yield message

    def message_keys(self, table: Table) -> list[str]:
        """`key_properties`: columns that are sent."""
        return table.primary_key
