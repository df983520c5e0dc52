"""Azurite, Microsoft's emulator of Azure Blob Storage, for the tests and for the example `sales`.

npm installs it into .demo/ when it is first used; `make clean` removes it.
"""

import base64
import contextlib
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from pathlib import Path

from servers import DEMO, ServerError

PACKAGE = "azurite@3.35.0"
INSTALLED = DEMO / PACKAGE
ACCOUNT = "examples"

# Ends a server when its own input ends, as it does with the process that started it.
GUARD = """
import select, subprocess, sys
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
while server.poll() is None and not select.select([sys.stdin], [], [], 0.5)[0]:
    pass
server.kill()
"""


def command(*options: str) -> list[str]:
    """What starts the blob service on a free port, which it prints. Raises ServerError if it cannot be installed."""
    return ["node", str(_program()), "--silent", "--disableTelemetry", "--blobPort", "0", *options]


def _program() -> Path:
    """Azurite's program, installed the first time."""
    program = INSTALLED / "node_modules/azurite/dist/src/blob/main.js"
    if not (shutil.which("node") and shutil.which("npm")):
        raise ServerError("Azurite needs node and npm")
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            print(f"Installing {PACKAGE} into .demo", flush=True)
            done = subprocess.run(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts",
                                   "--prefix", INSTALLED, PACKAGE], capture_output=True, text=True)
            if done.returncode:
                shutil.rmtree(INSTALLED / "node_modules", ignore_errors=True)
                raise ServerError(f"npm cannot install {PACKAGE}: {done.stderr[-500:]}")
    return program


@contextlib.contextmanager
def serving(data: Path, container: str, certificate: Path, key: Path, authority: Path) -> Iterator[dict[str, str]]:
    """A container behind TLS that keeps its blobs in a folder; ends with the block, or with this process.

    Args:
        data: The folder.
        container: Its name.
        certificate, key: Of 127.0.0.1.
        authority: The certificate of who signed it.

    Returns:
        The variables by which a run finds it.

    Raises:
        ServerError: It cannot be installed, or does not start.
    """
    secret = base64.b64encode(secrets.token_bytes(64)).decode()
    data.mkdir(parents=True, exist_ok=True)
    options = ["--location", str(data), "--cert", str(certificate), "--key", str(key)]
    with (data / "azurite.log").open("w") as log, subprocess.Popen(
        [sys.executable, "-c", GUARD, *command(*options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        text=True, start_new_session=True, env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{secret}"},
    ) as process:
        try:
            endpoint = f"https://127.0.0.1:{_port(process, data / 'azurite.log')}/{ACCOUNT}"
            _make_container(endpoint, container, secret, authority)
            yield {"AZURE_STORAGE_ENDPOINT": endpoint, "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                   "AZURE_STORAGE_ACCOUNT_KEY": secret, "SSL_CERT_FILE": str(authority)}
        finally:
            process.stdin.close()


def _port(process: subprocess.Popen, log: Path) -> str:
    for line in process.stdout:
        if found := re.search(r"successfully listens on https://127\.0\.0\.1:(\d+)", line):
            return found[1]
    raise ServerError(f"Azurite did not start. Its log: {log}")


def _make_container(endpoint: str, name: str, secret: str, authority: Path) -> None:
    """Create it if it is missing."""
    query = {"restype": "container"}
    request = urllib.request.Request(f"{endpoint}/{name}?restype=container", method="PUT")  # noqa: S310
    for header, value in signed("PUT", f"/{ACCOUNT}/{name}", query, {}, "", ACCOUNT, secret).items():
        request.add_header(header, value)
    context = ssl.create_default_context(cafile=str(authority))
    try:
        urllib.request.urlopen(request, timeout=30, context=context).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code != 409:  # it exists
            raise ServerError(f"Azurite refused to make the container {name}: {error}") from None


def signed(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], length: str, account: str,
           secret: str) -> dict[str, str]:
    """The headers of a request with its signature by an account's key (SharedKey).

    Args:
        method, path, query: Of the request; the path begins with the account.
        headers: Content-Type, and those that begin with x-ms-.
        length: Of the body; empty without one.
        account, secret: Whose request it is, and the key in base64.
    """
    own = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02",
           **{name: value for name, value in headers.items() if name.startswith("x-ms-")}}
    lines = [method, "", "", length, "", headers.get("Content-Type", ""), "", "", "", "", "", "",
             *(f"{name}:{value}" for name, value in sorted(own.items())),
             f"/{account}{path}", *(f"{name}:{value}" for name, value in sorted(query.items()))]
    digest = hmac.digest(base64.b64decode(secret), "\n".join(lines).encode(), hashlib.sha256)
    return {**headers, **own, "Authorization": f"SharedKey {account}:{base64.b64encode(digest).decode()}"}
