"""What an example needs besides PostgreSQL: a container of Azurite, TLS before the embedded server, keys, files."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import azurite
import servers
from landing.api import SettingError, today
from tls import Authority, TlsFront

AZURITE = ".azurite"  # folder of its blobs, below the example's
KEYS, SAMPLE_KEYS = ".protection-keys", ".sample-keys"
INBOX = "output/inbox"  # copies of a person's own files


@contextlib.contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Have these variables in the environment until the end of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def container(name: str, authority: Authority) -> Iterator[None]:
    """A container of Azurite behind TLS, as INBOX; without node and npm the folder `inbox`, as INBOX and FILES."""
    files = authority.issue("azurite", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(azurite.serving(Path(AZURITE).absolute(), name, *files, authority.file))
            found |= {"INBOX": f"az://{name}"}
        except servers.ServerError as error:
            print(f"{error}: files come from the folder inbox instead of a container", flush=True)
            found = {"INBOX": "inbox", "FILES": "inbox/*.csv"}
        stack.enter_context(variables(found))
        yield


@contextlib.contextmanager
def own_files(files: str) -> Iterator[None]:
    """Have INBOX, and FILES in it, for a person's own files: a URL as it is; of local ones copies, which are moved.

    At the end no copy is left of a file that was not moved, for example since its date was landed before.

    Raises:
        SettingError: There is no such file.
    """
    if "://" in files:
        with variables({"INBOX": re.split(r"[*?\[{]", files)[0].rpartition("/")[0]}):
            yield
        return
    found = glob.glob(f"{files}/*.csv" if Path(files).is_dir() else files, recursive=True)
    if not found:
        raise SettingError(f"FILES={files!r} finds no file. Nothing was extracted. Correct it, and run again.")
    Path(INBOX).mkdir(parents=True, exist_ok=True)
    copies = [Path(shutil.copy(path, INBOX)) for path in found]
    try:
        with variables({"INBOX": INBOX, "FILES": f"{INBOX}/*.csv"}):
            yield
    finally:
        if left := sorted(copy.name for copy in copies if copy.exists()):
            print(f"Not landed in this run: {', '.join(left)}. If the reason is that the date is landed and past, run "
                  "again with a later DATE, or none for today.", flush=True)
        for copy in copies:
            copy.unlink(missing_ok=True)


@contextlib.contextmanager
def warehouse(authority: Authority) -> Iterator[None]:
    """TLS before the warehouse, with verify-full, if that is the embedded server, which is built without TLS."""
    port = str(servers.Server(servers.DEMO).port)
    if (os.environ["TARGET_POSTGRES_HOST"], os.environ["TARGET_POSTGRES_PORT"]) != (servers.HOST, port):
        yield
        return
    front = TlsFront(int(port), *authority.issue("warehouse", "localhost"))
    found = {"HOST": "localhost", "PORT": str(front.port), "SSLMODE": "verify-full",
             "SSLROOTCERT": str(authority.file)}
    with contextlib.closing(front), variables({f"TARGET_POSTGRES_{name}": value for name, value in found.items()}):
        yield


def keys(sampled: bool) -> Mapping[str, str]:
    """The variable of the file of keys, which is made the first time; none if a person has set their own.

    The sample has a key of its own, which goes with it: of a person's data, `make clean` must remove no key.
    """
    if os.environ.get("PROTECTION_KEYS") or os.environ.get("PROTECTION_KEYS_FILE"):
        return {}
    file, id_ = (SAMPLE_KEYS, "sample") if sampled else (KEYS, f"{today():%Y-%m}")
    if not Path(file).exists():
        subprocess.run([Path(sys.executable).parent / "landing", "key", id_, "--to", file], check=True)
    return {"PROTECTION_KEYS_FILE": file}
