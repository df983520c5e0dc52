"""What people would pick instead, each in an environment of its own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import ClassVar

from contestant import EXTRACT, LOAD, LOAD_KEY, Contestant
from data import EMPTY, SAMPLE, USUAL, Data
from databases import TARGET
from measure import Cost
from servers import write_private


class DuckDB(Contestant):
    """DuckDB with its postgres extension."""

    name = "DuckDB, Parquet"
    suffix = "parquet"
    settings = "`COPY … TO` Parquet (zstd) and back, 2 threads, no insertion order; the key after the data"
    peer = "duckdb"
    once = (LOAD,)
    once_from = USUAL
    start, rate, files = 0.5, 250_000, 0.1

    def out(self, data: Data, key: bool) -> Path:
        return self.folder / f"{data.name}.{self.suffix}"

    def extract(self, data: Data) -> Cost:
        return self.run(self.python("extract", data.shape.table, self.out(data, True)), database=data.name)

    def load(self, data: Data, key: bool) -> Cost:
        more = [data.shape.key] * key
        return self.run(self.python("load", data.shape.table, self.out(data, True), *more), database=TARGET)


class DuckDBCsv(DuckDB):
    name = "DuckDB, CSV"
    suffix = "csv"
    settings = "the same by CSV"
    slow = True
    files = 1


class Sling(Contestant):
    name = "sling"
    settings = "CSV; bulk load (its default)"
    phases = (EXTRACT, LOAD)
    peer = "sling"
    slow = True
    start, rate = 0.6, 36_000
    prepared = False

    def out(self, data: Data, key: bool) -> Path:
        return self.folder / f"{data.name}.csv"

    def before_load(self, data: Data, key: bool) -> None:
        """It writes no file for a table without rows."""
        super().before_load(data, key)
        if not self.out(data, key).exists():
            self.out(data, key).write_text(self.databases.header(data.name, data.shape.table) + "\n")

    def extract(self, data: Data) -> Cost:
        return self._sling(data.name, "--src-conn", "SOURCE", "--src-stream", f"public.{data.shape.table}",
                           "--tgt-object", f"file://{self.out(data, True)}")

    def load(self, data: Data, key: bool) -> Cost:
        return self._sling(TARGET, "--src-stream", f"file://{self.out(data, True)}", "--tgt-conn", "TARGET",
                           "--tgt-object", f"public.{data.shape.table}", "--mode", "full-refresh")

    def _sling(self, database: str, *words: str) -> Cost:
        [binary] = self.bin.parent.glob("lib/python*/site-packages/sling_*/bin/sling-*")
        url = self.databases.url(database) + "?sslmode=disable"
        return self.run([binary, "run", *words], database=database, SOURCE=url, TARGET=url,
                        SLING_HOME_DIR=str(self.folder / "home"), SLING_DISABLE_TELEMETRY="true")


class Dlt(Contestant):
    name = "dlt"
    settings = "connectorx to Parquet; Parquet by ADBC"
    phases = (EXTRACT, LOAD)
    peer = "dlt"
    slow = True
    start, rate, files = 3, 180_000, 0.3
    loaded = "bench.lineitem"
    prepared = False

    def before_extract(self, data: Data) -> None:
        super().before_extract(data)
        self._forget()

    def before_load(self, data: Data, key: bool) -> None:
        super().before_load(data, key)
        self._forget()

    def extract(self, data: Data) -> Cost:
        return self._dlt("extract", data, data.name)

    def load(self, data: Data, key: bool) -> Cost:
        return self._dlt("load", data, TARGET)

    def _dlt(self, phase: str, data: Data, database: str) -> Cost:
        command = self.python(phase, data.shape.table, self.out(data, True))
        return self.run(command, database=database, DATABASE_URL=self.databases.url(database),
                        DLT_DATA_DIR=str(self.folder / "state"), RUNTIME__DLTHUB_TELEMETRY="false")

    def _forget(self) -> None:
        """A pipeline that it finds would go on where it ended."""
        self._remove(self.folder / "state")


class Singer(Contestant):
    """The MeltanoLabs plugins, piped without Meltano; on a sample, since 6 M rows take them a quarter of an hour."""

    name = "stock Singer, defaults"
    settings = "`tap-postgres` into `target-csv`; its recorded messages into `target-postgres`"
    phases = (EXTRACT, LOAD_KEY)
    peer = "singer"
    slow = True
    start, rate = 1.5, 2_500
    loaded = "melty.lineitem"
    prepared = False
    target: ClassVar[dict] = {}

    @classmethod
    def takes(cls, data: Data, phase: str) -> bool:
        return phase in cls.phases and data in (EMPTY, SAMPLE)

    def before_extract(self, data: Data) -> None:
        super().before_extract(data)
        self.out(data, True).mkdir()
        self._write("tap", data.name, filter_schemas=["public"])
        write_private(self.folder / "csv.json", json.dumps({"output_path": str(self.out(data, True))}))
        self._select(data)

    def before_load(self, data: Data, key: bool) -> None:
        """The tap's messages are recorded first, so that the target alone is timed: no stock tap-csv is a package."""
        super().before_load(data, key)
        self._write("target", TARGET, **self.target)
        if not self._messages(data).exists():
            self._pipe(data.name, f"{self._tap(data)} > {self._messages(data)}")

    def extract(self, data: Data) -> Cost:
        return self._pipe(data.name, f"{self._tap(data)} | {self._program('target-csv')} --config csv.json")

    def load(self, data: Data, key: bool) -> Cost:
        return self._pipe(TARGET, f"{self._program('target-postgres')} --config target.json < {self._messages(data)}")

    def _tap(self, data: Data) -> str:
        return f"{self._program('tap-postgres')} --config tap.json --catalog {data.name}.json"

    def _messages(self, data: Data) -> Path:
        return self.folder.parent / f"messages-{data.name}.jsonl"

    def _program(self, name: str) -> str:
        return shlex.quote(str(self.bin / name))

    def _pipe(self, database: str, line: str) -> Cost:
        return self.run(["bash", "-o", "pipefail", "-c", line], database=database)

    def _write(self, file: str, database: str, **more: object) -> None:
        server = self.databases.server
        config = {"host": server.host, "port": server.port, "user": server.user, "password": server.password,
                  "database": database}
        write_private(self.folder / f"{file}.json", json.dumps(config | more))

    def _select(self, data: Data) -> None:
        """Without a catalog no stream is selected."""
        path = self.folder / f"{data.name}.json"
        self._pipe(data.name, f"{self._program('tap-postgres')} --config tap.json --discover > {path.name}")
        catalog = json.loads(path.read_text())
        for stream in catalog["streams"]:
            for entry in stream["metadata"]:
                entry["metadata"]["selected"] = True
        path.write_text(json.dumps(catalog))


class SingerBest(Singer):
    """With what makes it fastest: the tap writes files itself (BATCH), the target copies large, unvalidated batches."""

    name = "stock Singer, best settings"
    settings = "`tap-postgres` with BATCH (JSON lines, gzip); `target-postgres` with use_copy, large batches"
    target: ClassVar[dict] = {"use_copy": True, "batch_size_rows": 100_000, "validate_records": False,
                              "add_record_metadata": False, "activate_version": False}

    def extract(self, data: Data) -> Cost:
        batch = {"encoding": {"format": "jsonl", "compression": "gzip"}, "batch_size": 100_000,
                 "storage": {"root": f"file://{self.out(data, True)}"}}
        self._write("tap", data.name, filter_schemas=["public"], batch_config=batch)
        cost = self._pipe(data.name, f"{self._tap(data)} > batches.jsonl")
        self._write("tap", data.name, filter_schemas=["public"])
        return cost
