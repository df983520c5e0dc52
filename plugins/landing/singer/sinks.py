"""Sinks: records checked against their SCHEMA, and a table's rows gathered in files."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from singer_sdk import Target

from landing.core.errors import IncompleteInputError
from landing.core.progress import Progress
from landing.model import csv_dialect
from landing.model.naming import folder_name
from landing.model.schema import NAME_BYTES, File
from landing.singer import values
from landing.singer.completion import Sent
from landing.singer.metadata import ENCODING, METADATA, StreamMetadata
from landing.singer.reader import BadLineError
from landing.singer.sdk import BaseBatchFileEncoding, SdkSink
from landing.singer.types import column_of
from landing.singer.validator import Validator
from landing.storage import hashing
from landing.storage.base import Object
from landing.storage.compression import SUFFIXES
from landing.storage.hashing import BUFFER, HashedFile

logger = logging.getLogger(__name__)

MIXED = "{} is sent both as files and as records"


class StrictSink(SdkSink):
    """Rejects records that do not match their schema, unless `validate_records` is false."""

    def __init__(self, target: Target, stream_name: str, schema: dict, key_properties: Any, **more: Any) -> None:
        for name in (self.table_of(stream_name, schema), *schema["properties"]):
            if len(name.encode()) > NAME_BYTES:
                raise BadLineError(f"{stream_name} has the name {name!r}, which is longer than PostgreSQL's "
                                   f"limit of {NAME_BYTES} bytes")
        super().__init__(target, stream_name, schema, key_properties, **more)

    def table_of(self, stream_name: str, schema: dict) -> str:
        """Name of the stream's table."""
        return StreamMetadata.of_schema(schema).table or stream_name

    def get_validator(self) -> Any:
        return Validator(self.schema) if self.validate_schema else None

    def check_record(self, record: Mapping[str, Any]) -> None:
        """Raise BadLineError if a record has values for properties that the schema lacks."""
        if self.validate_schema and (more := record.keys() - self.schema["properties"].keys()):
            lost = sorted(name for name in more if record[name] is not None)
            if lost:
                raise BadLineError(f"a record of {self.stream_name} has properties that its SCHEMA lacks: "
                                   f"{', '.join(lost)}")


class FileSink(StrictSink):
    """Collects a table's rows in files: those that BATCH names, or one that it writes from RECORDs."""

    include_sdc_metadata_properties = False
    parse_timestamps = False

    def __init__(self, target: Target, stream_name: str, schema: dict, key_properties: Any, **_: Any) -> None:
        self.stream_metadata = StreamMetadata.of_schema(schema)
        self.ours = METADATA in schema
        super().__init__(target, stream_name, schema, key_properties)
        exact = {name: self.ours and name not in self.stream_metadata.mapped for name in schema["properties"]}
        self.columns = [column_of(name, p, ours=exact[name])
                        for name, p in schema["properties"].items() if "const" not in p]
        self._writers = [(column.name, csv_dialect.text if exact[column.name] else values.writer(column))
                         for column in self.columns]
        self.objects: list[Object] = []
        self.written: File | None = None
        self._target = target
        self._open: tuple[HashedFile, io.BufferedWriter] | None = None
        self._rows = 0

    @property
    def header(self) -> tuple[Any, ...]:
        """What a later SCHEMA of the same stream may not change."""
        return {column.name: column for column in self.columns}, list(self.key_properties), self.stream_metadata

    def get_validator(self) -> Any:
        """For records of third-party taps only: ours have the database's types."""
        return None if self.ours else super().get_validator()

    def process_batch_files(self, encoding: BaseBatchFileEncoding, files: Sequence[str]) -> None:
        """Accept the files; the completion message has their rows and checksums."""
        if encoding.format != ENCODING:
            raise BadLineError(f"a BATCH of {self.stream_name} has the encoding {encoding.format!r}; csv and jsonl are "
                               "supported")
        if self._open is not None:
            raise BadLineError(MIXED.format(self.stream_name))
        self.objects += [self._target.accept(url) for url in files]

    def process_batch(self, context: dict) -> None:
        """Nothing to do: records are written as they arrive."""

    def process_record(self, record: dict, context: dict) -> None:
        """Write one line."""
        if self._open is None:
            self._start()
        self._open[1].write(csv_dialect.line([*self._fields(record)]))
        self._rows += 1

    def activate_version(self, new_version: int) -> None:
        """Raise BadLineError if rows of another version arrived: a partition has one version."""
        if others := self._target.versions[self.stream_name] - {new_version}:
            raise BadLineError(f"{self.stream_name} has rows of version {min(others)}, and version {new_version} is "
                               "activated; a partition has one version")

    def _fields(self, record: Mapping[str, Any]) -> Iterator[str | None]:
        for name, write in self._writers:
            try:
                yield write(record.get(name))
            except ValueError as error:
                raise BadLineError(f"{name} in a record of {self.stream_name} {error}") from None

    def _start(self) -> None:
        if self.objects:
            raise BadLineError(MIXED.format(self.stream_name))
        suffix = SUFFIXES[self.config.get("compression", "none")]
        self.objects = [self._target.staging.file(folder_name(self.stream_name), suffix)]
        raw = hashing.create(self.objects[0], Progress(logger, self.stream_name).advance)
        self._open = raw, io.BufferedWriter(raw, BUFFER)
        self._open[1].write(csv_dialect.header(self.columns))

    def finish(self) -> None:
        """Close the file; without rows it is only a header."""
        if not self.objects:
            self._start()
        if self._open is not None:
            raw, file = self._open
            file.close()
            self.written = File.at(self.objects[0], self._rows, raw.size, raw.sha256)
            self._open = None

    def verified(self, sent: Sent) -> list[File]:
        """The files at `objects`: as the tap counted them or, of records, as they were written here.

        Raises:
            IncompleteInputError: What was sent is not what arrived.
        """
        if self.written and self.written.rows == sent.rows:
            return [self.written]
        if (not self.written and len(sent.files) == len(self.objects)
                and sum(file.rows for file in sent.files) == sent.rows):
            return sent.files
        found = f"{self.written.rows} rows" if self.written else f"{len(self.objects)} files"
        raise IncompleteInputError(
            f"{self.stream_name}: the tap sent {sent.rows} rows in {len(sent.files)} files, and {found} arrived. "
            "Nothing was committed; run again."
        )
