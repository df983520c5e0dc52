"""The broker: a Redis on the loopback, or the server that AIRFLOW__CELERY__BROKER_URL names."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from landing.api import SettingError, settings
from processes import Component

from workers.ports import HOST, free_port, wait_for

PROGRAM = "redis-server"
VARIABLE = "AIRFLOW__CELERY__BROKER_URL"
# appendonly: tasks in the queue survive a restart.
CONFIG = """bind {host}
port {port}
requirepass {password}
dir {folder}
appendonly yes
save ""
loglevel warning
"""


def require() -> None:
    """Raise SettingError if there is neither a broker nor a program to start one."""
    if not (settings().get(VARIABLE) or shutil.which(PROGRAM)):
        raise SettingError(f"{PROGRAM} is not on PATH. Install it (Debian, Ubuntu: apt-get install redis-server, "
                           f"macOS: brew install redis) or name a running Redis by {VARIABLE} in .env, and run again.")


@dataclass
class Broker:
    """A Redis with a generated password in a file that only its owner can read: command lines are public."""

    folder: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def component(self) -> Component:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / "redis.conf"
        text = CONFIG.format(host=HOST, port=self.port, password=self.password, folder=quoted(self.folder))
        write_private(path, text)
        return Component("redis", [str(shutil.which(PROGRAM)), str(path)], self.folder)

    def wait(self) -> None:
        wait_for(self.port, PROGRAM)


def quoted(path: Path) -> str:
    """A path for Redis's configuration, which splits words at spaces."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from the first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
