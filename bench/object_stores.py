"""Those who keep their files in an object store: each in a server of its own, in memory, on the loopback."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
from typing import ClassVar

from contestant import EXTRACT, LOAD_KEY
from data import LINEITEM, Data
from databases import ROOT, TARGET
from measure import Cost
from others import Dlt, Sling
from ours import Landing

BUCKET, KEY, REGION = "bench", "bench", "us-east-1"
SERVER = ROOT / "tests" / "fake_store.py"


class Server:
    """An S3 server with an empty bucket; what it holds goes with it."""

    def __init__(self) -> None:
        command = [sys.executable, SERVER, "--port", "0", "--bucket", BUCKET]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        atexit.register(self.stop)
        self.endpoint = f"http://127.0.0.1:{self.process.stdout.readline().split()[-1].rpartition(':')[2]}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def variables(self) -> dict[str, str]:
        """By which AWS's own tools and ours find it."""
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY,
                "AWS_REGION": REGION}


class InStore:
    """Mixed into a contestant: a new server before each extract."""

    only: ClassVar[str] = "largest"
    files: ClassVar[float] = 0  # in memory
    server: Server | None = None

    def before_extract(self, data: Data) -> None:
        if self.server:
            self.server.stop()
        self.server = Server()
        self.extracted.clear()
        super().before_extract(data)

    def size(self, data: Data, phase: str) -> int:
        """The store's bytes are not counted."""
        return 0 if phase == EXTRACT else super().size(data, phase)


class LandingStore(InStore, Landing):
    name = "landing, store"
    settings = "as landing, LANDING_ROOT=s3://…"
    phases = once = (EXTRACT, LOAD_KEY)
    twice = False
    from_keyless = False

    @classmethod
    def takes(cls, data: Data, phase: str) -> bool:
        return data.shape is LINEITEM and super().takes(data, phase)

    def _landed(self, data: Data, key: bool) -> bool:
        return data.name in self.extracted

    def _meltano(self, data: Data, key: bool, *words: str, **variables: str) -> Cost:
        root = {"LANDING_ROOT": f"s3://{BUCKET}/{data.database(key)}"}
        return super()._meltano(data, key, *words, **root, **self.server.variables, **variables)


class DltStore(InStore, Dlt):
    name = "dlt, store"
    settings = "as dlt, on s3://…"

    def _dlt(self, phase: str, data: Data, database: str) -> Cost:
        command = self.python(phase, data.shape.table, f"s3://{BUCKET}/dlt")
        prefix = "DESTINATION__FILESYSTEM__CREDENTIALS__"
        credentials = {f"{prefix}AWS_ACCESS_KEY_ID": KEY, f"{prefix}AWS_SECRET_ACCESS_KEY": KEY,
                       f"{prefix}ENDPOINT_URL": self.server.endpoint, f"{prefix}REGION_NAME": REGION}
        return self.run(command, database=database, DATABASE_URL=self.databases.url(database),
                        DLT_DATA_DIR=str(self.folder / "state"), RUNTIME__DLTHUB_TELEMETRY="false", **credentials,
                        **self.server.variables)


class SlingStore(InStore, Sling):
    name = "sling, store"
    settings = "as sling, on s3://…"

    def extract(self, data: Data) -> Cost:
        return self._sling(data.name, "--src-conn", "SOURCE", "--src-stream", f"public.{data.shape.table}",
                           "--tgt-conn", "STORE", "--tgt-object", f"s3://{BUCKET}/{data.name}.csv")

    def before_load(self, data: Data, key: bool) -> None:
        super(Sling, self).before_load(data, key)

    def load(self, data: Data, key: bool) -> Cost:
        return self._sling(TARGET, "--src-conn", "STORE", "--src-stream", f"s3://{BUCKET}/{data.name}.csv",
                           "--tgt-conn", "TARGET", "--tgt-object", f"public.{data.shape.table}", "--mode",
                           "full-refresh")

    def run(self, *commands: list, database: str, **variables: str) -> Cost:
        store = {"type": "s3", "bucket": BUCKET, "access_key_id": KEY, "secret_access_key": KEY, "region": REGION,
                 "endpoint": self.server.endpoint, "url_style": "path"}
        return super().run(*commands, database=database, STORE=json.dumps(store), **variables)
