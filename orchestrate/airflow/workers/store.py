"""Where the workers land: the store that LANDING_ROOT names or, for the demo, an S3 server in memory."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from landing.api import SettingError, settings
from processes import Component

from workers.broker import write_private
from workers.ports import HOST, free_port, wait_for

STORE = re.compile(r"(s3|gs|az)://\S+")
LOGS = "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER"
DEMO = "# Written by make demo: the embedded PostgreSQL."  # first line of its .env
CONNECTION = "landing_logs"
BUCKET = "landing"
SERVER = Path(__file__).with_name("moto_store.py")


def landing_root() -> str:
    """The store that LANDING_ROOT names; empty for a folder."""
    root = settings().get("LANDING_ROOT") or ""
    return root if STORE.fullmatch(root) else ""


def require(project: Path) -> None:
    """Raise SettingError if workers cannot share what they land, or their logs."""
    root = landing_root()
    env = project / ".env"
    if not root and env.is_file() and not env.read_text("utf-8").startswith(DEMO):
        folder = settings().get("LANDING_ROOT") or "output"
        raise SettingError(f"LANDING_ROOT={folder!r} is a folder, and workers share none. Set LANDING_ROOT in .env to "
                           "a store, such as s3://bucket/prefix, with the store's variables "
                           "(docs/how-to/object-stores.md), and run again.")
    if root and not root.startswith("s3://") and not settings().get(LOGS):
        raise SettingError(f"LANDING_ROOT={root} is not on S3, the only store to which the logs of tasks go without "
                           f"further settings. Set {LOGS} in .env (docs/how-to/workers.md#logs), and run again.")


def log_settings(root: str) -> dict[str, str]:
    """Settings of Airflow that put the logs of tasks on the store, below `_airflow_logs`, and keep none here.

    boto3 finds credentials as the landing zone does; it wants the region by another name.
    """
    values = settings()
    extra = {"endpoint_url": values.get("AWS_ENDPOINT_URL_S3") or values.get("AWS_ENDPOINT_URL"),
             "region_name": values.get("AWS_REGION") or values.get("AWS_DEFAULT_REGION"),
             "config_kwargs": {"s3": {"addressing_style": "path"}} if values.get("AWS_ENDPOINT_URL") else None}
    return {
        "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
        "AIRFLOW__LOGGING__DELETE_LOCAL_LOGS": "True",
        LOGS: values.get(LOGS) or f"{root.rstrip('/')}/_airflow_logs",
        "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID": values.get("AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID") or CONNECTION,
        f"AIRFLOW_CONN_{CONNECTION.upper()}": json.dumps(
            {"conn_type": "aws", "extra": {name: value for name, value in extra.items() if value}}),
    }


@dataclass
class StandIn:
    """An S3 server in memory, for a look at the workers without a store: what it has is gone when it stops."""

    port: int = field(default_factory=free_port)

    @property
    def environ(self) -> dict[str, str]:
        return {"LANDING_ROOT": f"s3://{BUCKET}/zone", "AWS_ENDPOINT_URL": f"http://{HOST}:{self.port}",
                "AWS_ACCESS_KEY_ID": "stand-in", "AWS_SECRET_ACCESS_KEY": "stand-in", "AWS_REGION": "us-east-1"}

    def component(self, folder: Path) -> Component:
        return Component("moto", [sys.executable, "-P", str(SERVER), HOST, str(self.port), BUCKET], folder)

    def wait(self, env: Path) -> None:
        """Until it answers; then write its variables into a file for other programs, and set them."""
        wait_for(self.port, "moto")
        write_private(env, "".join(f"export {name}={value}\n" for name, value in self.environ.items()))
        os.environ.update(self.environ)
