"""What our plugins say to each other in Singer's own messages.

SCHEMA carries `x-landing` beside `properties`: which table of which source this is, what it refers to, the file of its
bad rows where it has some and, when it comes out of the landing zone, of which date and run.

BATCH has the encoding `csv`: files in the one dialect (dialect.py).

STATE, the last one, carries `landing`: each stream with its rows, and bytes and SHA-256 of its files. A target sees
only the end of its input when a tap dies, and cannot tell it from success; with this message it can. No proof, no
commit.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import psycopg2
import simplejson
import singer_sdk
from singer_sdk import Sink, Stream, Tap, Target
from singer_sdk import typing as th
from singer_sdk.exceptions import SingerSDKError
from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig, StorageTarget
from singer_sdk.plugin_base import PluginBase
from singer_sdk.singerlib import RecordMessage, SchemaMessage

from landing import (
    attempts,
    committing,
    database,
    dialect,
    files,
    foreign,
    mapped,
    messages,
    project,
    runfiles,
    zone,
)
from landing.committing import CommitPoint
from landing.dialect import Column
from landing.errors import (
    AfterCommitError,
    LandingError,
    MessageError,
    NoProofError,
    ZoneError,
    describe,
    printable,
    reported,
)
from landing.files import named
from landing.messages import BadLineError
from landing.session import STALL_TIMEOUT as STALL_SECONDS

PATIENCE = 5.0  # seconds that a signal waits for a commit, or a message, that is on its way
MARK = "x-landing"
CLOSING = "landing"
ENCODING = "csv"

# The closing message: what is in it ends up in paths and manifests.
COUNT = {"type": "integer", "minimum": 0}
FILE = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "rows": COUNT, "bytes": COUNT, "stored": COUNT,
                   "sha256": {"type": "string", "pattern": r"\A[0-9a-f]{64}\Z"}},
    "required": ["path", "rows", "bytes", "sha256"],
    "additionalProperties": False,
}
STREAM = {
    "type": "object",
    "properties": {"rows": COUNT, "files": {"type": "array", "items": FILE}},
    "required": ["rows", "files"],
}
MOMENT = {"type": "string", "pattern": r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00\Z"}
PROOF = messages.Validator({
    "type": "object",
    "properties": {
        "run_id": {"type": "string", "pattern": rf"\A{zone.RUN_ID.pattern}\Z"},
        "streams": {"type": "object", "additionalProperties": STREAM},
        "source": {"type": "string"},
        "taken_at": MOMENT,
        "snapshot": {"type": "object"},
        "extracted_at": {"type": "string"},
        "started_at": MOMENT,
        "kept": {"type": "boolean"},
        "left_out": {"type": "object", "additionalProperties": {"type": ["array", "null"]}},
        "sources": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["run_id", "streams"],
}, messages.DRAFTS[0])

LANDING_ROOT = th.Property(
    "landing_root",
    th.StringType,
    description="Folder of the landing zone, relative to the project. Unset: LANDING_ROOT, else `output`.",
)
SOURCE = th.Property(
    "source",
    th.StringType,
    description="Name of the source, as in `source=<name>`. Unset: SOURCE, else the tap's own.",
)
USE_BATCH = th.Property(
    "use_batch",
    th.BooleanType,
    default=True,
    description="Send files (BATCH, encoding csv) to our own targets. Switch it off for a target of somebody else: "
    "then the same rows go as RECORDs.",
)


CONNECTIONS = th.Property(
    "connections",
    th.IntegerType(minimum=1, maximum=64),
    default=2,
    description="How many connections copy rows at the same time; one more holds the snapshot, or the lock of a load.",
)
STALL_TIMEOUT = th.Property(
    "stall_timeout",
    th.IntegerType(minimum=1),
    default=STALL_SECONDS,
    description="Seconds without a byte from a PostgreSQL server whose session is not at work either, after which a "
    "run fails.",
)
MIXED = "{} comes as files and as records at once"

COMPRESSION = th.Property(
    "compression",
    th.StringType,
    allowed_values=[*files.SUFFIXES],
    default="none",
    description="How landed files are stored.",
)
DISK_HEADROOM = th.Property(
    "disk_headroom",
    th.IntegerType(minimum=0),
    default=50,
    description="How much of the files' expected size has to be free in the landing zone before an extract begins, in "
    "percent. It is an estimate, and more so of compressed files: 0 begins in any case.",
)
COMPRESSED = 0.1  # of its size, what a file may shrink to: a guess on the side of those who have little room


_scratch: set[str] = set()  # what a signal's end, which runs no clean-up of the main thread, has to remove


def scratch_folder() -> Path:
    """A temporary folder that goes when the process does."""
    folder = tempfile.mkdtemp(prefix="landing-")
    _scratch.add(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A temporary folder that goes at the end, or when a signal ends the process."""
    with tempfile.TemporaryDirectory(prefix="landing-") as folder:
        _scratch.add(folder)
        yield folder
    _scratch.discard(folder)


def unused_name(name: str, taken: Iterable[str]) -> str:
    """`name`, with as many underscores behind it as it takes to differ from those."""
    taken = set(taken)
    while name in taken:
        name += "_"
    return name


@dataclass(frozen=True)
class Extract:
    """One table on its way: what its SCHEMA says, and the files that hold its rows, in order."""

    table: zone.Table
    paths: list[Path]


class LandingStream(Stream):
    """A stream that has its rows in files of our dialect, and sends the files or their rows.

    Subclasses give `mark`, `table` and `extract()`.
    """

    mark: Mapping[str, Any] = {}
    constants: Mapping[str, str] = {}  # properties that are the same in every row

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent: dict[str, dict[str, Any]] = {}  # by the name that each message gave its stream

    @property
    def table(self) -> zone.Table:
        """Columns and key as they leave."""
        raise NotImplementedError

    def extract(self, folder: Path) -> Extract:
        """The files with the rows: written into `folder`, or where they lie already."""
        raise NotImplementedError

    def selected_columns(self, columns: Sequence[Column]) -> list[Column]:
        """Those that the catalog doesn't deselect."""
        return [column for column in columns if self.mask["properties", column.name]]

    @cached_property
    def mapped(self) -> bool:
        """Whether the user changes this stream's rows on their way: see mapped.py."""
        return mapped.is_mapped(self)

    def get_batch_config(self, config: Mapping[str, Any]) -> BatchConfig | None:
        """Ours in place of the SDK's setting, which knows no csv."""
        if self.mapped or not config.get("use_batch", True):
            return None
        return BatchConfig(BaseBatchFileEncoding(ENCODING), StorageTarget(self._tap.landing_zone.root.as_uri()))

    def get_batches(self, batch_config: BatchConfig, context: Any = None) -> Iterator[tuple[Any, list[str]]]:
        """The table's files."""
        extract = self.extract(self._tap.staging)
        self.sent[self.name]["rows"] += extract.table.rows
        self.sent[self.name]["files"] += [file.to_dict() for file in extract.table.files]
        yield batch_config.encoding, [path.as_uri() for path in extract.paths]

    def get_records(self, context: Any) -> Iterator[dict[str, Any]]:
        """The same rows one by one, for a target of somebody else."""
        with scratch() as folder:
            extract = self.extract(Path(folder))
            for path in extract.paths:
                yield from dialect.records(path, extract.table.columns, self.constants)

    def conform(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Hook for properties that a subclass adds to its SCHEMA."""
        return schema

    def _write_state_message(self) -> None:
        """Only where there is a bookmark: each STATE names all tables before it, and a thousand tables get slow."""
        if self.replication_key:
            super()._write_state_message()

    def _generate_schema_messages(self) -> Iterator[SchemaMessage]:
        for message in map(self._mapped_message, super()._generate_schema_messages()) if self.mapped else [
                self._schema_message()]:
            self.sent[message.stream] = {"rows": 0, "files": []}
            yield message

    def _schema_message(self) -> SchemaMessage:
        table = self.table
        properties = {column.name: dialect.json_schema(column) for column in table.columns}
        schema = self.conform({"type": "object", "properties": properties, MARK: self._metadata_of(table)})
        bookmarks = [self.replication_key] if self.replication_key else None
        return SchemaMessage(self.name, schema, self.message_keys(table), bookmarks)

    def _mapped_message(self, message: SchemaMessage) -> SchemaMessage:
        """The SDK's SCHEMA of a mapped stream with this table's metadata; an alias is a table of its own."""
        table = self.table
        properties = mapped.properties(self, table, message.schema["properties"])
        metadata = self._metadata_of(table) | {"mapped": sorted(mapped.changed_columns(self) & {*properties}),
                                               "declared_types": True}
        if message.stream != self.name:
            metadata["table"] = message.stream
        if "primary_key" in metadata:  # of a landed date; the map may have another
            metadata["primary_key"] = [name for name in message.key_properties or [] if name not in self.constants]
        message.schema = self.conform({**message.schema, "properties": properties, MARK: metadata})
        return message

    def _metadata_of(self, table: zone.Table) -> dict[str, Any]:
        return {"schema": table.schema, "table": table.name, "comment": table.comment,
                "foreign_keys": [asdict(key) for key in table.foreign_keys],
                **({"not_of_snapshot": table.not_of_snapshot} if table.not_of_snapshot else {}), **self.mark}

    def _generate_record_messages(self, record: dict[str, Any]) -> Iterator[RecordMessage]:
        for message in super()._generate_record_messages(record):
            self.sent[message.stream]["rows"] += 1
            yield message

    def message_keys(self, table: zone.Table) -> list[str]:
        """`key_properties`; a foreign target would refuse a key that it gets no column for."""
        return table.primary_key


class Interruptible(PluginBase):
    """A plugin that ends at once, with a non-zero status, when it is told to.

    The SDK's handlers drain what they have and exit with 0, as if that were all; and Python runs no handler at all
    while libpq waits for the server. So a thread of its own waits for the signal.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.point = CommitPoint()  # first of all: the base class starts the thread that waits for signals
        super().__init__(*args, **kwargs)

    def _setup_signal_handlers(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in self.SIGNALS:
            signal.signal(number, _noted)
            signal.siginterrupt(number, False)
        threading.Thread(target=self._await_signal, args=(woken,), daemon=True).start()

    def _await_signal(self, woken: int) -> None:
        """End the process, whatever fails or hangs meanwhile. `woken`: where Python writes each signal's number."""
        while (number := os.read(woken, 1)[0]) not in self.SIGNALS:
            pass
        status = 128 + number
        try:
            watchdog = threading.Timer(3 * PATIENCE, os._exit, (status,))
            watchdog.daemon = True
            watchdog.start()
            status = self._stop(number, status)
            for folder in [*_scratch]:
                shutil.rmtree(folder, ignore_errors=True)
        except BaseException:
            self.logger.exception("Stopping by signal %d failed.", number)
        finally:
            os._exit(status)

    def _stop(self, number: int, status: int) -> int:
        """Report the outcome, once it can't change any more, and the exit status; see CommitPoint."""
        state, idle = self.point.close(status, PATIENCE)
        if state == committing.PASSED:
            self.logger.info("Signal %d came after the commit point. %s", number, self.point.done)
            threading.main_thread().join(PATIENCE)  # what is left takes moments, and ends the process
            return 0
        if state in (committing.PASSING, committing.UNKNOWN):
            self.logger.error("Stopped by signal %d at the commit point. %s", number, self.point.unknown)
            return status
        self.logger.error("Stopped by signal %d before the commit point: nothing was committed. Run again.", number)
        self.stopped()
        if idle:
            self.abandon()
        else:
            threading.main_thread().join(PATIENCE)  # it can't pass, so it takes back what it moved, and ends
        return status

    def stopped(self) -> None:
        """Hook for what is to be noted when a signal ends this run."""

    def abandon(self) -> None:
        """Remove what only this run needs."""


class LandingTap(Interruptible, Tap):
    """A tap that closes with its proof."""

    date: date  # that is landed, or loaded
    kept = False  # the date is frozen: nothing is sent
    needs_catalog = True  # to know which streams are selected

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.run_id, self.started_at = zone.new_run_id(), zone.now()
        super().__init__(*args, **kwargs)
        self.point.done = self.point.unknown = "The target's own lines tell whether it committed what was sent."
        self.metrics_logger.setLevel(logging.WARNING)  # the closing line says it all

    @property
    def catalog_json_text(self) -> str:
        """What `--discover` prints."""
        return json.dumps(runfiles.marked(self.catalog_dict, sys.argv), indent=2)

    @property
    def staging(self) -> Path:
        """Where this run's files are written, for the target to take."""
        return self.landing_zone.staging(self.run_id)

    @property
    def landing_zone(self) -> zone.LandingZone:
        """The landing zone of the settings."""
        raise NotImplementedError

    @property
    def source(self) -> str:
        """Name of this source."""
        raise NotImplementedError

    @property
    def again(self) -> str:
        """The command that does once more what this run is to do."""
        return project.extract_command(self.source, self.date)

    def keep_if_frozen(self) -> bool:
        """Deselect every stream if the date is landed and past; the target checks the same under the commit lock."""
        self.kept = self.landing_zone.frozen(self.source, self.date, self.started_at)
        if self.kept:
            for stream in self.streams.values():
                stream.selected = False
        return self.kept

    def landed_closing(self, available: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """What the closing message of an extract says besides its streams: decided once, here, and held by the target.

        `available`: the columns of each stream that the source has now, sent or not.
        """
        return {"source": self.source, "extracted_at": self.date.isoformat(), "kept": self.kept,
                "started_at": self.started_at.isoformat(), "left_out": {} if self.kept else self._left_out(available)}

    def _left_out(self, available: Mapping[str, Sequence[str]]) -> dict[str, list[str] | None]:
        """What was not sent: columns by stream, None for a whole stream. Stream maps choose columns on purpose."""
        sent = {name: stream for stream in self.streams.values() for name in stream.sent}
        found: dict[str, list[str] | None] = {name: None for name in available if name not in sent}
        for name, stream in sent.items():
            if name in available and not stream.mapped:
                missing = {*available[name]} - {column.name for column in stream.table.columns}
                found |= {name: sorted(missing)} if missing else {}
        return found

    def require_room(self, expected: int) -> None:
        """Refuse to begin with files of so many bytes, were they plain, where the disk won't hold them."""
        free = self.landing_zone.free()
        size = expected * (1 if self.config["compression"] == "none" else COMPRESSED)
        if free < size * self.config["disk_headroom"] / 100:
            raise ZoneError(
                f"The files of {self.source} are expected to take about {size / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB "
                f"are free in {self.landing_zone.root}. Nothing was begun. Make room there (`landing gc` says what may "
                f"go), set `compression: zstd` or, should the estimate be wrong, `disk_headroom: 0` for {self.name} in "
                f"meltano.yml; then run again: {self.again}"
            )

    def closing(self) -> dict[str, Any]:
        """What a subclass adds to the proof."""
        return {}

    def sync_all(self) -> None:
        """Sync all streams, then prove that this was all. On any failure the run's staging goes.

        What the file system refuses is a ZoneError.
        """
        try:
            if self.needs_catalog:
                runfiles.require_catalog(sys.argv)
            super().sync_all()
            streams = {name: sent for stream in self.streams.values() for name, sent in stream.sent.items()}
            proof = {"run_id": self.run_id, "streams": streams, **self.closing()}
            with self.point.passing():  # from here on the target may take the files
                self.state_writer.write_state({**self.state, CLOSING: proof})
        except BaseException as error:
            self.cease()
            self.abandon()
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # that one the target explains
                raise _refused(error, self.again) from error
            raise

    def cease(self) -> None:
        """Hook to end what still writes into staging."""

    def abandon(self) -> None:
        self.landing_zone.discard(self.run_id)


class LookingSink(Sink):
    """Takes a record only as its SCHEMA has it; `validate_records: false` takes it as it comes."""

    def __init__(self, target: Target, stream_name: str, schema: dict, key_properties: Any, **more: Any) -> None:
        for name in (self.table_of(stream_name, schema), *schema["properties"]):
            if len(name.encode()) > dialect.NAME_BYTES:
                raise BadLineError(f"{stream_name} has the name {name!r}, and PostgreSQL cuts names after "
                                   f"{dialect.NAME_BYTES} bytes")
        super().__init__(target, stream_name, schema, key_properties, **more)

    def table_of(self, stream_name: str, schema: dict) -> str:
        """Name of the table that a stream becomes."""
        return schema.get(MARK, {}).get("table", stream_name)

    def get_validator(self) -> Any:
        return messages.Validator(self.schema) if self.validate_schema else None

    def _validate_and_parse(self, record: dict) -> dict:
        if self.validate_schema and (more := record.keys() - self.schema["properties"].keys()):
            lost = sorted(name for name in more if record[name] is not None)
            if lost:
                raise BadLineError(f"a record of {self.stream_name} has what its SCHEMA does not: {', '.join(lost)}")
        return super()._validate_and_parse(record)

    def _remove_sdc_metadata_from_schema(self) -> None:
        """What a tap calls so is its data."""

    def _remove_sdc_metadata_from_record(self, record: dict) -> None:
        """As above."""


class FileSink(LookingSink):
    """Gathers a table's rows in files: those that BATCH names, or one that it writes from RECORDs."""

    include_sdc_metadata_properties = False

    def __init__(self, target: Target, stream_name: str, schema: dict, key_properties: Any, **_: Any) -> None:
        self.mark = schema.get(MARK, {})
        self.foreign_keys = [zone.ForeignKey(**key) for key in self.mark.get("foreign_keys", [])]
        self._ours = MARK in schema
        super().__init__(target, stream_name, schema, key_properties)
        exact = {name: self._ours and name not in self.mark.get("mapped", ()) for name in schema["properties"]}
        self.columns = [dialect.column_of(name, p, ours=exact[name])
                        for name, p in schema["properties"].items() if "const" not in p]
        self._writers = [(column.name, dialect.text if exact[column.name] else foreign.writer(column))
                         for column in self.columns]
        self.paths: list[Path] = []
        self.written: zone.File | None = None
        self._target = target
        self._open: tuple[files.HashedFile, io.BufferedWriter] | None = None
        self._rows = 0

    @property
    def header(self) -> tuple[Any, ...]:
        """What may not change when a SCHEMA comes again."""
        return {column.name: column for column in self.columns}, list(self.key_properties), self.mark

    def get_validator(self) -> Any:
        """Another tap's records only: ours come from a database's own types."""
        return None if self._ours else super().get_validator()

    def _parse_timestamps_in_record(self, *_: Any, **__: Any) -> None:
        """What is text stays as it is."""

    def process_batch_files(self, encoding: BaseBatchFileEncoding, files: Sequence[str]) -> None:
        """Take the files; what they hold, the closing message says."""
        if encoding.format != ENCODING:
            raise BadLineError(f"a BATCH of {self.stream_name} has the encoding {encoding.format!r}; csv and jsonl are "
                               "known")
        if self._open is not None:
            raise BadLineError(MIXED.format(self.stream_name))
        self.paths += [self._target.accept(file_of(url)) for url in files]

    def process_batch(self, context: dict) -> None:
        """Nothing waits to be written: records are, as they come."""

    def process_record(self, record: dict, context: dict) -> None:
        """Write one line."""
        if self._open is None:
            self._start()
        self._open[1].write(dialect.line([*self._fields(record)]))
        self._rows += 1

    def activate_version(self, new_version: int) -> None:
        """Nothing to do where all rows are of that version: a landed date holds no others."""
        if others := self._target.versions[self.stream_name] - {new_version}:
            raise BadLineError(f"{self.stream_name} has rows of version {min(others)}, and version {new_version} is "
                               "activated; a landed date is of one version")

    def _fields(self, record: Mapping[str, Any]) -> Iterator[str | None]:
        for name, write in self._writers:
            try:
                yield write(record.get(name))
            except ValueError as error:
                raise BadLineError(f"{name} in a record of {self.stream_name} {error}") from None

    def _start(self) -> None:
        if self.paths:
            raise BadLineError(MIXED.format(self.stream_name))
        name = zone.folder_name(self.stream_name) + files.SUFFIXES[self.config.get("compression", "none")]
        path = self._target.staging / name
        raw = files.HashedFile(path, "xb", database.Progress(self.logger, self.stream_name).advance)
        self.paths = [path]
        self._open = raw, io.BufferedWriter(raw, files.BUFFER)
        self._open[1].write(dialect.header(self.columns))

    def finish(self) -> None:
        """Close what is being written; a stream without rows is a header and nothing else."""
        if not self.paths:
            self._start()
        if self._open is not None:
            raw, file = self._open
            file.close()
            self.written = zone.File.at(self.paths[0], self._rows, raw.size, raw.sha256)
            self._open = None

    def proved(self, sent: Mapping[str, Any]) -> list[zone.File]:
        """What `paths` hold, by the tap's word for files and by our own for records; NoProofError if they disagree."""
        if self.written and self.written.rows == sent["rows"]:
            return [self.written]
        said = [zone.File(**file) for file in sent["files"]]
        if not self.written and len(said) == len(self.paths) and sum(file.rows for file in said) == sent["rows"]:
            return said
        found = f"{self.written.rows} rows" if self.written else f"{len(self.paths)} files"
        raise NoProofError(
            f"{self.stream_name}: the tap sent {sent['rows']} rows in {len(sent['files'])} files, and {found} arrived. "
            "Nothing was committed; run again."
        )


class LandingTarget(Interruptible, Target):
    """A target that commits only what a tap has proved to be whole, and passes on STATE when that is done."""

    message_reader_class = messages.Reader

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.max_parallelism = 1  # files, or one connection: nothing to drain side by side
        self.metrics_logger.setLevel(logging.WARNING)
        self.proof: dict[str, Any] | None = None
        self.sinks: dict[str, FileSink] = {}
        self.versions: defaultdict[str, set[int]] = defaultdict(set)  # by stream

    def listen(self, file_input: Any = None) -> None:
        """Take all input and commit it; what the file system refuses is a ZoneError."""
        try:
            self._take(file_input)
            self.process_endofpipe()
        except Exception as error:
            if self.point.state == committing.PASSED:
                raise AfterCommitError(f"{self.point.done} But then: {_sentence(error)}") from error
            if isinstance(error, OSError):
                raise _refused(error, self.again) from error
            raise

    def _take(self, file_input: Any) -> None:
        """A message that can't be taken is refused with its line."""
        try:
            self.process_lines(file_input)
        except (LandingError, psycopg2.Error, OSError):
            raise
        except Exception as error:
            self.logger.debug("Line %d", self.message_reader.line, exc_info=True)
            raise self.refusal(error) from error

    def refusal(self, error: Exception) -> LandingError:
        """What went wrong with a message, as an error that names its line."""
        reason = " ".join(str(error).split())
        if not isinstance(error, (ValueError, SingerSDKError)):  # theirs are sentences
            reason = f"{type(error).__name__}: {reason}"
        return MessageError(self.message_reader.line, reason[:500].rstrip("."))

    def process_endofpipe(self) -> None:
        """Commit, and only then pass on the tap's STATE: who keeps that will not ask for these rows again."""
        self.drain_all(is_endofpipe=True)
        self.commit()
        if self._latest_state:
            with named("the tap's STATE, to standard output"):
                sys.stdout.write(simplejson.dumps(self._latest_state, use_decimal=True) + "\n")
                sys.stdout.flush()

    def commit(self) -> None:
        """Make all of the input be there at once."""
        raise NotImplementedError

    def _write_state_message(self, state: dict) -> None:
        """The SDK's moment for it is too early."""

    def _handle_max_record_age(self) -> None:
        """Nothing is committed before the end."""

    def file_sink(self, stream_name: str, schema: dict | None, key_properties: Any) -> FileSink:
        """The one for a stream; a table whose columns change while it comes is refused."""
        sink = self.sinks.get(stream_name)
        if schema is None:
            return sink
        new = FileSink(self, stream_name, schema, key_properties)
        if sink is None or not sink.paths:
            self.sinks[stream_name] = self._sinks_active[stream_name] = new
            return new
        if sink.header != new.header:
            raise BadLineError(f"the columns or the key of {stream_name} change after rows of it came, and a landed "
                               "table has one header")
        sink.schema, sink._validator = new.schema, new._validator
        return sink

    def _process_record_message(self, message_dict: dict) -> None:
        if message_dict.get("version") is not None:
            self.versions[message_dict["stream"]].add(message_dict["version"])
        super()._process_record_message(message_dict)

    def _process_activate_version_message(self, message_dict: dict) -> None:
        self._require_schema(message_dict)
        if message_dict["stream"] in self.sinks:
            self.sinks[message_dict["stream"]].activate_version(message_dict["version"])
        else:
            super()._process_activate_version_message(message_dict)

    def _process_batch_message(self, message_dict: dict) -> None:
        """Records in the SDK's own encoding are looked at as if each came by itself."""
        self._require_schema(message_dict)
        encoding, stream = message_dict["encoding"], message_dict["stream"]
        if encoding.get("format") != "jsonl":
            super()._process_batch_message(message_dict)
            return
        for url in message_dict["manifest"]:
            for record in messages.records(url, encoding.get("compression")):
                self._process_record_message({"type": "RECORD", "stream": stream, "record": record})

    def _require_schema(self, message: Mapping[str, Any]) -> None:
        if message["stream"] not in self.mapper.stream_maps:
            raise BadLineError(f"a {message['type']} of {message['stream']} comes before its SCHEMA")

    @property
    def again(self) -> str:
        """The command that does once more what this run is to do."""
        raise NotImplementedError

    def _process_state_message(self, message_dict: dict) -> None:
        proof = (message_dict["value"] or {}).get(CLOSING)
        if proof is not None:
            try:
                PROOF.validate(proof)
            except BadLineError as error:
                raise BadLineError(f"the closing message is not what it should be: {error}") from None
        self.proof = proof  # of the last message only: a tap's earlier words prove nothing
        super()._process_state_message(message_dict)

    def proved(self, sinks: Mapping[str, FileSink]) -> dict[str, list[zone.File]]:
        """Each stream's files, as the tap's closing message and what came agree on; else NoProofError."""
        sent = self.streams_sent(sinks)
        return {stream: sink.proved(sent[stream]) for stream, sink in sinks.items()}

    def streams_sent(self, arrived: Iterable[str]) -> dict[str, Any]:
        """What the tap says that it sent, of exactly the streams that arrived; else NoProofError."""
        if self.proof is None:
            raise NoProofError(
                "The input ended without the tap's closing message: the tap died, or is not one of ours. Nothing was "
                "committed, and all is as it was before. See the tap's own error above and run again."
            )
        sent = self.proof["streams"]
        if odd := {*sent} ^ {*arrived}:
            raise NoProofError(
                f"Streams that were sent or that arrived, but not both: {', '.join(sorted(odd))}. Nothing was "
                "committed; run again."
            )
        return sent


def _noted(*_: Any) -> None:
    """A handler, so that Python writes the signal's number to the wakeup descriptor, whichever thread it reaches."""


def _refused(error: OSError, again: str) -> ZoneError:
    return ZoneError(f"{describe(error)}. Nothing was committed; run again then: {again}")


def _sentence(error: Exception) -> str:
    said = describe(error) if isinstance(error, (OSError, psycopg2.Error)) else str(error) or type(error).__name__
    return said.rstrip(".") + "."


def file_of(url: str) -> Path:
    """The path of a file URL in a BATCH message."""
    return Path(unquote(urlparse(url).path))


SDK = os.path.join(os.path.dirname(singer_sdk.__file__), "")


class OwnWords(logging.Filter):
    """Leaves out the SDK's routine (INFO), several lines a table, so that what counts can be seen.

    No name of a table can make a line of its own.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.pathname.startswith(SDK):
            return record.levelno != logging.INFO
        record.msg, record.args = printable(record.getMessage()), ()
        return True


def run(plugin: type[Tap | Target]) -> None:
    """A plugin's command line, with errors as sentences."""
    project.keep_private(sys.argv)
    runfiles.take_logging()
    command = plugin.cli  # sets up logging
    for handler in logging.getLogger().handlers:
        handler.addFilter(OwnWords())
    if issubclass(plugin, Target) and (exposed := project.exposed_env()):  # a target, to say it once in a run
        logging.getLogger(plugin.name).warning("%s", exposed)
    try:
        with reported(logging.getLogger(plugin.name)), attempts.noted_at_discovery(plugin.name):
            runfiles.take(sys.argv)
            command()
    except SystemExit as end:
        _end(end.code)


def _end(status: Any) -> None:
    """End without taking down each of a thousand modules, which takes 0.1 s in every start of a plugin."""
    atexit._run_exitfuncs()
    status = status if isinstance(status, int) else int(status is not None)
    for output in (sys.stdout, sys.stderr):
        try:
            output.flush()
        except OSError:
            status = status or 1
    os._exit(status)
