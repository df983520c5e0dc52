"""The Singer SDK's private parts. Every override and every use of one is in this module.

Our classes derive from these bases and override their public hooks; a hook's default does what the SDK does.
tests/test_sdk.py names each private part, so an upgrade of the SDK that changes one breaks this module and no other.
The private parts of the MeltanoLabs plugins are in load/stock.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from singer_sdk import Sink, Stream, Tap, Target
from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig, StorageTarget
from singer_sdk.plugin_base import PluginBase
from singer_sdk.singerlib import CatalogEntry, MetadataMapping, RecordMessage, SchemaMessage

__all__ = ["BaseBatchFileEncoding", "BatchConfig", "CatalogStream", "SdkPlugin", "SdkSink", "SdkStream", "SdkTarget",
           "StorageTarget"]


class SdkPlugin(PluginBase):
    """A tap or a target."""

    def _setup_signal_handlers(self) -> None:
        self.handle_signals()

    def handle_signals(self) -> None:
        """Hook: install signal handlers."""
        super()._setup_signal_handlers()


class SdkStream(Stream):
    """A stream of a tap."""

    @property
    def tap(self) -> Any:
        """The tap that this stream belongs to."""
        return self._tap

    def log(self, message: str, *args: Any, level: int = logging.INFO, **kwargs: Any) -> None:
        """Drops the SDK's error line: it names the stream that is waited for, and another may have failed."""
        if level < logging.ERROR:
            super().log(message, *args, level=level, **kwargs)

    def _write_state_message(self) -> None:
        self.write_state()

    def write_state(self) -> None:
        """Hook: send a STATE message."""
        super()._write_state_message()

    def _generate_schema_messages(self) -> Iterator[SchemaMessage]:
        yield from self.schema_messages()

    def schema_messages(self) -> Iterator[SchemaMessage]:
        """Hook: the SCHEMA messages to send, one for each stream map."""
        yield from super()._generate_schema_messages()

    def _generate_record_messages(self, record: dict[str, Any]) -> Iterator[RecordMessage]:
        yield from self.record_messages(record)

    def record_messages(self, record: dict[str, Any]) -> Iterator[RecordMessage]:
        """Hook: the RECORD messages of a row, one for each stream map that keeps it."""
        yield from super()._generate_record_messages(record)


class CatalogStream(SdkStream):
    """A stream that its entry of the catalog describes, as the SDK's SQLStream is, but without SQLAlchemy."""

    def __init__(self, tap: Tap, entry: dict[str, Any]) -> None:
        self.entry = CatalogEntry.from_dict(entry)
        super().__init__(tap, self.entry.schema.to_dict(), self.entry.tap_stream_id)

    @property
    def _singer_catalog_entry(self) -> CatalogEntry:
        return self.entry

    @property
    def metadata(self) -> MetadataMapping:
        """The entry's."""
        return self.entry.metadata

    @property
    def primary_keys(self) -> list[str]:
        """By the entry's metadata, whatever else the catalog says."""
        return self.metadata.root.table_key_properties or []

    @primary_keys.setter
    def primary_keys(self, value: Any) -> None:
        pass


class SdkSink(Sink):
    """A stream's sink. Columns named like the SDK's own metadata (`_sdc_…`) are data."""

    parse_timestamps = True  # replace text by datetime, as the SDK does

    def _validate_and_parse(self, record: dict) -> dict:
        self.check_record(record)
        return super()._validate_and_parse(record)

    def check_record(self, record: Mapping[str, Any]) -> None:
        """Hook: raise an exception if a record is not valid. The SDK's own validation follows."""

    def _parse_timestamps_in_record(self, *args: Any, **kwargs: Any) -> None:
        if self.parse_timestamps:
            super()._parse_timestamps_in_record(*args, **kwargs)

    def _remove_sdc_metadata_from_schema(self) -> None:
        pass

    def _remove_sdc_metadata_from_record(self, record: dict) -> None:
        pass

    def adopt_schema(self, other: SdkSink) -> None:
        """Validate records by the schema of another sink from now on."""
        self.schema, self._validator = other.schema, other._validator


class SdkTarget(Target):
    """A target that commits once, at the end of its input, and writes STATE itself after that."""

    @property
    def latest_state(self) -> dict | None:
        """The value of the last STATE message; None: there is none to pass on."""
        return self._latest_state

    @latest_state.setter
    def latest_state(self, value: dict | None) -> None:
        self._latest_state = value

    @property
    def active_sinks(self) -> dict[str, Sink]:
        """All sinks by stream."""
        return self._sinks_active

    def _write_state_message(self, state: dict) -> None:
        """The SDK writes it before the commit."""

    def _handle_max_record_age(self) -> None:
        """The SDK drains sinks whose records are old."""

    def _process_record_message(self, message_dict: dict) -> None:
        self.process_record_message(message_dict)

    def process_record_message(self, message: dict) -> None:
        """Hook: process a RECORD message."""
        super()._process_record_message(message)

    def _process_activate_version_message(self, message_dict: dict) -> None:
        self.process_activate_version_message(message_dict)

    def process_activate_version_message(self, message: dict) -> None:
        """Hook: process an ACTIVATE_VERSION message."""
        super()._process_activate_version_message(message)

    def _process_batch_message(self, message_dict: dict) -> None:
        self.process_batch_message(message_dict)

    def process_batch_message(self, message: dict) -> None:
        """Hook: process a BATCH message."""
        super()._process_batch_message(message)

    def _process_state_message(self, message_dict: dict) -> None:
        self.process_state_message(message_dict)

    def process_state_message(self, message: dict) -> None:
        """Hook: process a STATE message."""
        super()._process_state_message(message)
