"""Discovery for tap-postgres without the Singer SDK.

Meltano starts a tap twice in every run, first for its catalog only. One query is enough for that, unless the connection
needs settings that only the MeltanoLabs tap implements (SSH tunnel, certificates, URL); importing the Singer SDK,
SQLAlchemy and paramiko takes 0.5 s.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from landing.core.dates import run_date
from landing.core.reporting import reported
from landing.core.settings import keep_private
from landing.extract.postgres.catalog import catalog, describe_tables
from landing.extract.postgres.keys import with_keys
from landing.postgres.connect import connect
from landing.postgres.parameters import CONNECTION, checked, libpq_arguments
from landing.singer import meltano_files
from landing.zone.run_log import log_tap_failure

PLAIN_ARGUMENTS = (["--config", "--discover"], ["--config", "--state", "--discover"])
PLAIN = {*CONNECTION, "filter_schemas", "ssl_enable", "ssl_mode", "source", "landing_root", "use_batch",
         "keys", "protect", "full_every", "incremental"}


def plain_config(arguments: Sequence[str]) -> Mapping[str, Any] | None:
    """The settings of `--config FILE [--state FILE] --discover`, if discover() supports them all; else None."""
    if [*arguments[:1], *arguments[2:3], *arguments[4:]] not in PLAIN_ARGUMENTS:
        return None
    config = json.loads(Path(arguments[1]).read_text("utf-8")) if Path(arguments[1]).is_file() else {}
    verified = config.get("ssl_enable") and str(config.get("ssl_mode", "verify-full")).startswith("verify-")
    plain = {*config} <= PLAIN and not verified
    return config if plain else None


def discover(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Singer catalog."""
    run_date("DATESTAMP")  # an invalid date is rejected before anything is read
    config = checked(config, "SOURCE", "tap-postgres")
    tables = describe_tables(connect(libpq_arguments(config), "tap-postgres"), config.get("filter_schemas") or [])
    return catalog(with_keys(tables, config.get("keys") or {}).values())


def run(config: Mapping[str, Any]) -> None:
    """Print the catalog."""
    keep_private(sys.argv)
    logging.basicConfig(format="%(message)s")
    with reported(logging.getLogger("tap-postgres")), log_tap_failure("tap-postgres"):
        json.dump(meltano_files.with_run_id(discover(config), sys.argv), sys.stdout, indent=2)
