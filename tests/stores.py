"""The object-store servers of the tests, on the loopback: started when first used, ended with the test process.

    fakes3, fakegcs   fake_store.py, in memory, with conditional writes of both kinds
    moto              S3; one request at a time, since moto checks a condition first and writes without a lock then
    azurite           Azure, Microsoft's own: npm installs it into .demo/; its tests are skipped without node and npm
    rclone            S3 that ignores conditions: what has to be refused
"""

from __future__ import annotations

import base64
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import quote, urlencode

import azurite
import pytest
from azurite import GUARD
from servers import ServerError

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
BUCKET = "landing"
ACCOUNT = "tester"  # Azurite's
SECRET = "kx7canary/store+secret"  # noqa: S105 (looked for in all that is written)
AZURE_KEY = base64.b64encode(SECRET.encode() * 3).decode()
STARTS = 60  # seconds
numbers = itertools.count()

MOTO = """
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
"""


class Store:
    """A running server with one bucket; keys are of the whole bucket."""

    scheme = "s3"

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (stop() closes it)
        self._process = subprocess.Popen([sys.executable, "-c", GUARD, *self.command()], stdin=subprocess.PIPE,
                                         stdout=self._log, stderr=self._log, env=self.settings(),
                                         start_new_session=True)
        self.port = self._listens()
        self.make_bucket()

    def command(self) -> list[str]:
        """What starts the server on a free port, which it prints."""
        raise NotImplementedError

    def settings(self) -> dict[str, str] | None:
        """Environment of the server."""
        return None

    def _listens(self) -> int:
        end = time.monotonic() + STARTS
        while time.monotonic() < end and self._process.poll() is None:
            self._log.seek(0)
            if found := re.search(r"http://127\.0\.0\.1:([1-9]\d*)", self._log.read()):
                return int(found[1])
            time.sleep(0.02)
        self._log.seek(0)
        raise RuntimeError(f"{' '.join(self.command())} does not listen: {self._log.read()}")

    def stop(self) -> None:
        """End the server."""
        self._process.communicate()
        self._log.close()

    # How it is reached

    def url(self, prefix: str = "") -> str:
        """A prefix as LANDING_ROOT names it; without one, a prefix that nobody else has."""
        return f"{self.scheme}://{BUCKET}/{prefix or f'zone-{next(numbers)}'}"

    def environment(self, port: int | None = None) -> dict[str, str]:
        """Variables by which the product reaches it; `port`: of a proxy in front of it."""
        return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}", "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": SECRET}

    def variables(self, root: str, port: int | None = None) -> dict[str, str]:
        """All that a run needs to land there."""
        return {"LANDING_ROOT": root, **self.environment(port)}

    # What is in it

    def content(self, root: str) -> dict[str, bytes]:
        """All objects below a root, by their key in it."""
        prefix = root.split("/", 3)[3] + "/"
        return {key.removeprefix(prefix): self.read(key) for key in self.keys(prefix)}

    def make_bucket(self) -> None:
        self.request("PUT", "")

    def put(self, key: str, content: bytes) -> None:
        self.request("PUT", key, body=content)

    def read(self, key: str) -> bytes:
        """Raises FileNotFoundError."""
        return self.request("GET", key)

    def delete(self, key: str) -> None:
        self.request("DELETE", key)

    def keys(self, prefix: str = "") -> list[str]:
        """Keys that begin so, in order."""
        found, token = [], {}
        while token is not None:
            page = self.request("GET", "", {"list-type": "2", "prefix": prefix, **token}).decode()
            found += [unescape(key) for key in re.findall(r"<Key>(.*?)</Key>", page)]
            more = re.search(r"<NextContinuationToken>(.*?)</NextContinuationToken>", page)
            token = {"continuation-token": unescape(more[1])} if more else None
        return sorted(found)

    def uploads(self) -> list[str]:
        """Keys of multipart uploads that are neither complete nor aborted."""
        return re.findall(r"<Upload>.*?<Key>(.*?)</Key>", self.request("GET", "", {"uploads": ""}).decode(), re.DOTALL)

    def request(self, method: str, key: str, query: dict[str, str] | None = None, body: bytes | None = None) -> bytes:
        """One request. Raises FileNotFoundError, or HTTPError for any other refusal."""
        path = f"/{self.base()}{BUCKET}{'/' if key else ''}{quote(key)}"
        url = f"http://127.0.0.1:{self.port}{path}?{urlencode(query or {})}"
        sent = urllib.request.Request(url, body, method=method)
        for name, value in self.headers(method, path, query or {}, body).items():
            sent.add_header(name, value)
        try:
            with urllib.request.urlopen(sent, timeout=30) as answer:  # noqa: S310
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise FileNotFoundError(key) from None
            raise

    def base(self) -> str:
        """What comes before the bucket in a path."""
        return ""

    def headers(self, method: str, path: str, query: dict[str, str], body: bytes | None) -> dict[str, str]:
        """What the request needs more."""
        return {"Content-Type": "application/octet-stream"} if body is not None else {}


class FakeS3(Store):
    """fake_store.py as S3."""

    def command(self) -> list[str]:
        return [sys.executable, str(ROOT / "tests/fake_store.py")]


class FakeGCS(Store):
    """fake_store.py as GCS."""

    scheme = "gs"

    def command(self) -> list[str]:
        return [sys.executable, str(ROOT / "tests/fake_store.py"), "--dialect", "gcs"]

    def environment(self, port: int | None = None) -> dict[str, str]:
        endpoint = f"http://127.0.0.1:{port or self.port}"
        return {"STORAGE_EMULATOR_HOST": endpoint, "GOOGLE_BEARER_TOKEN": SECRET}


class Moto(Store):
    """moto's server."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", MOTO]

    def headers(self, *request: object) -> dict[str, str]:
        """With a signature, of any value: objects are not public."""
        return {**super().headers(*request), "Authorization": "AWS4-HMAC-SHA256 Credential=tester/20260101/us-east-1/"
                "s3/aws4_request, SignedHeaders=host, Signature=0"}


class Rclone(Store):
    """rclone serve s3, in memory."""

    def command(self) -> list[str]:
        return [str(BIN / "rclone"), "serve", "s3", "--addr", "127.0.0.1:0", "--config", "", ":memory:"]


class Azurite(Store):
    """Azurite's blob service."""

    scheme = "az"

    def command(self) -> list[str]:
        try:
            return azurite.command("--inMemoryPersistence")
        except ServerError as error:
            pytest.skip(str(error))

    def settings(self) -> dict[str, str]:
        return {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{AZURE_KEY}"}

    def environment(self, port: int | None = None) -> dict[str, str]:
        return {"AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port or self.port}/{ACCOUNT}",
                "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY}

    def make_bucket(self) -> None:
        self.request("PUT", "", {"restype": "container"})

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(name for name, _ in self._blobs(prefix))

    def uploads(self) -> list[str]:
        committed = {name for name, _ in self._blobs("")}
        return [name for name, _ in self._blobs("", include="uncommittedblobs") if name not in committed]

    def _blobs(self, prefix: str, **query: str) -> list[tuple[str, str]]:
        found, marker = [], ""
        while True:
            page = self.request("GET", "", {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker,
                                            **query}).decode()
            found += re.findall(r"<Blob><Name>(.*?)</Name>(.*?)</Blob>", unescape(page), re.DOTALL)
            marker = "".join(re.findall(r"<NextMarker>(.*?)</NextMarker>", page))
            if not marker:
                return found

    def base(self) -> str:
        return f"{ACCOUNT}/"

    def headers(self, method: str, path: str, query: dict[str, str], body: bytes | None) -> dict[str, str]:
        """Signed with the account's key."""
        more = {**super().headers(method, path, query, body),
                **({"x-ms-blob-type": "BlockBlob"} if body is not None else {})}
        return azurite.signed(method, path, query, more, str(len(body)) if body else "", ACCOUNT, AZURE_KEY)


KINDS = {"fakes3": FakeS3, "fakegcs": FakeGCS, "moto": Moto, "azurite": Azurite, "rclone": Rclone}
SOUND = ("fakes3", "fakegcs", "moto", "azurite")  # that honour conditions


class Stores:
    """The servers of this test process, by name."""

    def __init__(self) -> None:
        self._running: dict[str, Store] = {}

    def __getitem__(self, name: str) -> Store:
        if name not in self._running:
            self._running[name] = KINDS[name]()
        return self._running[name]

    def stop(self) -> None:
        for store in self._running.values():
            store.stop()


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    """All servers; one starts when it is first used."""
    running = Stores()
    yield running
    running.stop()


@pytest.fixture
def store(request: pytest.FixtureRequest, stores: Stores) -> Store:
    """The one that a test is parametrized with, by name."""
    return stores[request.param]
