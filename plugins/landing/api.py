"""The public interface: what the DAG, the notebook, the demo and `inspection/` import.

Everything else in this package may change in any version.
"""

from __future__ import annotations

from landing.core.commands import extract_command, load_command, transform_command
from landing.core.dates import parse_date, refuse_future, today
from landing.core.errors import (
    DamagedError,
    LandingError,
    SettingError,
    VerificationError,
    WarehouseError,
    describe,
)
from landing.core.redaction import without_secrets
from landing.core.reporting import FILE_VARIABLE as ERRORS_VARIABLE
from landing.core.reporting import errors_in, reported
from landing.core.settings import keep_private, results_folder, settings
from landing.core.settings import root as project_root
from landing.core.sources import JOB_PREFIX, declared_sources, has_files_of_each_date
from landing.core.text import table
from landing.load.history import PARTITION_KEY, columns_of, history_name
from landing.load.load_history import LoadHistory
from landing.model.manifest import Manifest
from landing.postgres.configured import connect
from landing.postgres.tls import certificate_authority
from landing.status.facts import Status
from landing.status.metrics import as_metrics
from landing.status.page import as_page
from landing.status.reading import read_status
from landing.transform.build_date import BuildDate, build_date
from landing.transform.dbt import is_set_up as transform_is_set_up
from landing.verify.reconcile import EQUAL
from landing.zone.landed_date import LandedDate
from landing.zone.landing_zone import LandingZone

__all__ = [
    "EQUAL",
    "ERRORS_VARIABLE",
    "JOB_PREFIX",
    "PARTITION_KEY",
    "BuildDate",
    "DamagedError",
    "LandedDate",
    "LandingError",
    "LandingZone",
    "LoadHistory",
    "Manifest",
    "SettingError",
    "Status",
    "VerificationError",
    "WarehouseError",
    "as_metrics",
    "as_page",
    "build_date",
    "certificate_authority",
    "columns_of",
    "connect",
    "declared_sources",
    "describe",
    "errors_in",
    "extract_command",
    "has_files_of_each_date",
    "history_name",
    "keep_private",
    "load_command",
    "parse_date",
    "project_root",
    "read_status",
    "refuse_future",
    "reported",
    "results_folder",
    "settings",
    "table",
    "today",
    "transform_command",
    "transform_is_set_up",
    "without_secrets",
]
