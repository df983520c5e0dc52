"""Makes the keys that all of Airflow's containers share, once: fernet, API, JWT, and Redis's password.

    python orchestrate/airflow/workers/keys.py FOLDER

FOLDER/airflow.env sets them in a shell; FOLDER/redis.conf is Redis's. Only this user can read them.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

REDIS = """bind * -::*
requirepass {password}
save ""
loglevel warning
"""


def main(folder: Path) -> None:
    """Write both files, unless they are there."""
    if (folder / "airflow.env").exists():
        return
    password = secrets.token_hex(24)
    write(folder / "redis.conf", REDIS.format(password=password))
    values = {
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__CELERY__BROKER_URL": f"redis://:{password}@redis:6379/0",
    }
    write(folder / "airflow.env", "".join(f"export {name}={value}\n" for name, value in values.items()))


def write(path: Path, text: str) -> None:
    """Write a private file; it is there with all of its text, or not at all."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.rename(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
