"""The base of both targets: it commits what a completion message confirms, and only then passes on STATE."""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg2
import simplejson
from singer_sdk.exceptions import SingerSDKError

from landing.core.commit_point import PASSED
from landing.core.errors import (
    AfterCommitError,
    IncompleteInputError,
    LandingError,
    MessageError,
    named,
    sentence,
    storage_error,
)
from landing.model.schema import File
from landing.singer import reader
from landing.singer.completion import Completion, Sent
from landing.singer.reader import BadLineError, Reader
from landing.singer.sdk import SdkTarget
from landing.singer.signals import SignalHandling
from landing.singer.sinks import FileSink


class LandingTarget(SignalHandling, SdkTarget):
    """A target that commits at the end of its input, and then passes on STATE."""

    message_reader_class = Reader

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.max_parallelism = 1  # files, or one connection: nothing to drain in parallel
        self.metrics_logger.setLevel(logging.WARNING)
        self.completion: Completion | None = None
        self.sinks: dict[str, FileSink] = {}
        self.versions: defaultdict[str, set[int]] = defaultdict(set)  # by stream

    def listen(self, file_input: Any = None) -> None:
        """Read all input and commit it. Raises ZoneError for errors of the file system."""
        try:
            with self.until_stopped():
                self._read(file_input)
                self.process_endofpipe()
        except Exception as error:
            if self.point.state == PASSED:
                raise AfterCommitError(f"{self.point.done} But then: {sentence(error)}") from error
            if isinstance(error, OSError):
                raise storage_error(error, self.retry_command) from error
            raise

    def _read(self, file_input: Any) -> None:
        """Raise MessageError, with the line's number, for a message that is not valid."""
        try:
            self.process_lines(file_input)
        except (LandingError, psycopg2.Error, OSError):
            raise
        except Exception as error:
            self.logger.debug("Line %d", self.message_reader.line, exc_info=True)
            raise self.refusal(error) from error

    def refusal(self, error: Exception) -> LandingError:
        """An error with the line's number for what went wrong with its message."""
        reason = " ".join(str(error).split())
        if not isinstance(error, (ValueError, SingerSDKError)):  # their messages are sentences
            reason = f"{type(error).__name__}: {reason}"
        return MessageError(self.message_reader.line, reason[:500].rstrip("."))

    def process_endofpipe(self) -> None:
        """Commit, then pass on the tap's STATE: once that is stored, the tap will not send these rows again."""
        self.drain_all(is_endofpipe=True)
        self.commit()
        if self.latest_state:
            with named("the tap's STATE, to standard output"):
                sys.stdout.write(simplejson.dumps(self.latest_state, use_decimal=True) + "\n")
                sys.stdout.flush()

    def commit(self) -> None:
        """Hook: commit all of the input atomically."""
        raise NotImplementedError

    def file_sink(self, stream_name: str, schema: dict | None, key_properties: Any) -> FileSink:
        """The sink of a stream. Raises BadLineError if a table's columns change after its first row."""
        sink = self.sinks.get(stream_name)
        if schema is None:
            return sink
        new = FileSink(self, stream_name, schema, key_properties)
        if sink is None or not sink.objects:
            self.sinks[stream_name] = self.active_sinks[stream_name] = new
            return new
        if sink.header != new.header:
            raise BadLineError(f"the columns or the key of {stream_name} changed after its first row, and a landed "
                               "table has one header")
        sink.adopt_schema(new)
        return sink

    def process_record_message(self, message: dict) -> None:
        if message.get("version") is not None:
            self.versions[message["stream"]].add(message["version"])
        super().process_record_message(message)

    def process_activate_version_message(self, message: dict) -> None:
        self._require_schema(message)
        if message["stream"] in self.sinks:
            self.sinks[message["stream"]].activate_version(message["version"])
        else:
            super().process_activate_version_message(message)

    def process_batch_message(self, message: dict) -> None:
        """Records in the SDK's encoding jsonl are processed like RECORD messages."""
        self._require_schema(message)
        encoding, stream = message["encoding"], message["stream"]
        if encoding.get("format") != "jsonl":
            super().process_batch_message(message)
            return
        for url in message["manifest"]:
            for record in reader.records(url, encoding.get("compression")):
                self.process_record_message({"type": "RECORD", "stream": stream, "record": record})

    def _require_schema(self, message: Mapping[str, Any]) -> None:
        if message["stream"] not in self.mapper.stream_maps:
            raise BadLineError(f"a {message['type']} of {message['stream']} comes before its SCHEMA")

    @property
    def retry_command(self) -> str:
        """The command that repeats this run."""
        raise NotImplementedError

    def process_state_message(self, message: dict) -> None:
        self.completion = Completion.of_state(message["value"])  # only the last STATE counts
        super().process_state_message(message)

    def verified_files(self, sinks: Mapping[str, FileSink]) -> dict[str, list[File]]:
        """The files of each stream.

        Raises:
            IncompleteInputError: There is no completion message, or it differs from what arrived.
        """
        sent = self.streams_sent(sinks)
        return {stream: sink.verified(sent[stream]) for stream, sink in sinks.items()}

    def streams_sent(self, arrived: Iterable[str]) -> dict[str, Sent]:
        """What the tap sent of each stream; raises IncompleteInputError as verified_files() does."""
        if self.completion is None:
            raise IncompleteInputError(
                "The input ended without the tap's completion message: the tap died, or is not one of ours. Nothing "
                "was committed. The tap's own error above says what to do; if there is none, it was killed: run again."
            )
        sent = self.completion.streams
        if odd := {*sent} ^ {*arrived}:
            raise IncompleteInputError(
                f"Only sent, or only arrived: {', '.join(sorted(odd))}. Nothing was committed. Run again."
            )
        return sent
