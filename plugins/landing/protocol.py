"""What our plugins say to each other in Singer's own messages.

SCHEMA carries `x-landing` beside `properties`: which table of which source this is, what it refers to and, when it
comes out of the landing zone, of which date and run.

BATCH has the encoding `csv`: files in the one dialect (dialect.py).

STATE, the last one, carries `landing`: each stream with its rows, and bytes and SHA-256 of its files. A target sees
only the end of its input when a tap dies, and cannot tell it from success; with this message it can. No proof, no
commit.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from singer_sdk import Sink, Stream, Tap, Target
from singer_sdk import typing as th
from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig, StorageTarget
from singer_sdk.plugin_base import PluginBase
from singer_sdk.singerlib import RecordMessage, SchemaMessage

from landing import attempts, database, dialect, files, zone
from landing.dialect import Column
from landing.errors import NoProofError, reported

MARK = "x-landing"
CLOSING = "landing"
ENCODING = "csv"

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
COMPRESSION = th.Property(
    "compression",
    th.StringType,
    allowed_values=[*files.SUFFIXES],
    default="none",
    description="How landed files are stored.",
)


def scratch_folder() -> Path:
    """A temporary folder that goes when the process does."""
    folder = tempfile.mkdtemp(prefix="landing-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


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

    @property
    def mapped(self) -> bool:
        """Whether the user changes rows on their way (stream maps, flattening): files would pass them by."""
        return bool(self.config.get("stream_maps") or self.config.get("flattening_enabled"))

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
        with tempfile.TemporaryDirectory(prefix="landing-") as folder:
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
        for message in super()._generate_schema_messages() if self.mapped else [self._schema_message()]:
            self.sent[message.stream] = {"rows": 0, "files": []}
            yield message

    def _schema_message(self) -> SchemaMessage:
        table = self.table
        properties = {column.name: dialect.json_schema(column) for column in table.columns}
        about = {"schema": table.schema, "table": table.name, "comment": table.comment,
                 "foreign_keys": [asdict(key) for key in table.foreign_keys]}
        schema = self.conform({"type": "object", "properties": properties, MARK: {**about, **self.mark}})
        bookmarks = [self.replication_key] if self.replication_key else None
        return SchemaMessage(self.name, schema, self.message_keys(table), bookmarks)

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

    def _setup_signal_handlers(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.pthread_sigmask(signal.SIG_BLOCK, self.SIGNALS)
            threading.Thread(target=self._await_signal, daemon=True).start()

    def _await_signal(self) -> None:
        number = signal.sigwait(self.SIGNALS)
        self.logger.error("Stopped by signal %d before the end: nothing was committed. Run again.", number)
        self.stopped()
        self.abandon()
        os._exit(128 + number)

    def stopped(self) -> None:
        """Hook for what is to be noted when a signal ends this run."""

    def abandon(self) -> None:
        """Remove what only this run needs."""


class LandingTap(Interruptible, Tap):
    """A tap that closes with its proof."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.run_id = zone.new_run_id()
        super().__init__(*args, **kwargs)
        self.metrics_logger.setLevel(logging.WARNING)  # the closing line says it all

    @property
    def staging(self) -> Path:
        """Where this run's files are written, for the target to take."""
        return self.landing_zone.staging(self.run_id)

    @property
    def landing_zone(self) -> zone.LandingZone:
        """The landing zone of the settings."""
        raise NotImplementedError

    def closing(self) -> dict[str, Any]:
        """What a subclass adds to the proof."""
        return {}

    def sync_all(self) -> None:
        """Sync all streams, then prove that this was all. On any failure the run's staging goes."""
        try:
            super().sync_all()
            streams = {name: sent for stream in self.streams.values() for name, sent in stream.sent.items()}
            proof = {"run_id": self.run_id, "streams": streams, **self.closing()}
            self.state_writer.write_state({**self.state, CLOSING: proof})
        except BaseException:
            self.cease()
            self.abandon()
            raise

    def cease(self) -> None:
        """Hook to end what still writes into staging."""

    def abandon(self) -> None:
        self.landing_zone.discard(self.run_id)


class FileSink(Sink):
    """Gathers a table's rows in files: those that BATCH names, or one that it writes from RECORDs."""

    def __init__(self, target: Target, stream_name: str, schema: dict, key_properties: Any, **_: Any) -> None:
        """Without `format`, or the SDK would turn text into dates; another tap's records are validated as usual."""
        self.mark = schema.get(MARK, {})
        self.foreign_keys = [zone.ForeignKey(**key) for key in self.mark.get("foreign_keys", [])]
        self._trusted = MARK in schema
        properties = {name: {k: v for k, v in p.items() if k != "format"} for name, p in schema["properties"].items()}
        super().__init__(target, stream_name, {**schema, "properties": properties}, key_properties)
        self.original_columns = list(schema["properties"].items())
        self.columns = [dialect.column_of(name, p) for name, p in schema["properties"].items() if "const" not in p]
        self.paths: list[Path] = []
        self.written: zone.File | None = None
        self._target = target
        self._open: tuple[files.HashedFile, io.BufferedWriter] | None = None
        self._rows = 0

    def get_validator(self) -> Any:
        return None if self._trusted else super().get_validator()

    def process_batch_files(self, encoding: BaseBatchFileEncoding, files: Sequence[str]) -> None:
        """Ours are taken as files; other encodings are read into records by the SDK."""
        if encoding.format != ENCODING:
            super().process_batch_files(encoding, files)
            return
        self.paths += [self._target.accept(file_of(url)) for url in files]

    def process_batch(self, context: dict) -> None:
        """Records of a foreign BATCH; those of RECORD messages are written as they come."""
        for record in context.get("records", []):
            self.process_record(record, context)

    def process_record(self, record: dict, context: dict) -> None:
        """Write one line."""
        if self._open is None:
            self._start()
        self._open[1].write(dialect.line([dialect.text(record.get(column.name)) for column in self.columns]))
        self._rows += 1

    def _start(self) -> None:
        if self.paths:
            raise NoProofError(f"{self.stream_name} came as files and as records at once. Nothing was committed.")
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
        if not self.written and len(sent["files"]) == len(self.paths):
            return [zone.File(**file) for file in sent["files"]]
        found = f"{self.written.rows} rows" if self.written else f"{len(self.paths)} files"
        raise NoProofError(
            f"{self.stream_name}: the tap sent {sent['rows']} rows in {len(sent['files'])} files, and {found} arrived. "
            "Nothing was committed; run again."
        )


class LandingTarget(Interruptible, Target):
    """A target that commits only what a tap has proved to be whole."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.metrics_logger.setLevel(logging.WARNING)
        self.proof: dict[str, Any] | None = None

    def _process_state_message(self, message_dict: dict) -> None:
        value = message_dict.get("value") or {}
        self.proof = value.get(CLOSING)  # of the last message only: a tap's earlier words prove nothing
        super()._process_state_message(message_dict)

    def proved(self, sinks: Mapping[str, FileSink]) -> dict[str, list[zone.File]]:
        """Each stream's files, as the tap's closing message and what came agree on; else NoProofError."""
        if self.proof is None:
            raise NoProofError(
                "The input ended without the tap's closing message: the tap died, or is not one of ours. Nothing was "
                "committed, and all is as it was before. See the tap's own error above and run again."
            )
        sent = self.proof["streams"]
        if odd := {*sent} ^ {*sinks}:
            raise NoProofError(
                f"Streams that were sent or that arrived, but not both: {', '.join(sorted(odd))}. Nothing was "
                "committed; run again."
            )
        return {stream: sink.proved(sent[stream]) for stream, sink in sinks.items()}


def file_of(url: str) -> Path:
    """The path of a file URL in a BATCH message."""
    return Path(unquote(urlparse(url).path))


class OwnWords(logging.Filter):
    """Leaves out the SDK's routine (INFO), several lines a table, so that what counts can be seen."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno != logging.INFO or "singer_sdk" not in record.pathname


def run(plugin: type[Tap | Target]) -> None:
    """A plugin's command line, with errors as sentences."""
    command = plugin.cli  # sets up logging
    for handler in logging.getLogger().handlers:
        handler.addFilter(OwnWords())
    try:
        with reported(logging.getLogger(plugin.name)), attempts.noted_at_discovery(plugin.name):
            command()
    except SystemExit as end:
        _end(end.code)


def _end(status: Any) -> None:
    """End without taking down each of a thousand modules, which takes 0.1 s in every start of a plugin."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))
