"""Settings that several plugins share."""

from __future__ import annotations

from singer_sdk import typing as th

from landing.core.sources import CONNECTIONS as DEFAULT_CONNECTIONS
from landing.core.sources import MOST_CONNECTIONS
from landing.postgres.session import STALL_TIMEOUT as STALL_SECONDS
from landing.storage.compression import SUFFIXES

LANDING_ROOT = th.Property(
    "landing_root",
    th.StringType,
    description="Folder of the landing zone, relative to the project, or s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, "
    "gs://BUCKET/PREFIX. Unset: LANDING_ROOT, else `output`.",
)

SOURCE = th.Property(
    "source",
    th.StringType,
    description="Name of the source, as in `source=<name>`. Unset: SOURCE, else the tap's own.",
)

USE_BATCH = th.Property(
    "use_batch",
    th.BooleanType,
    default=True,
    description="Send files (BATCH, encoding csv) to our own targets. Switch it off for a third-party target: "
    "the same rows are then sent as RECORDs.",
)

CONNECTIONS = th.Property(
    "connections",
    th.IntegerType(minimum=1, maximum=MOST_CONNECTIONS),
    default=DEFAULT_CONNECTIONS,
    description="How many connections copy rows at the same time; one more holds the snapshot or, in a load, the lock. "
    "`landing verify` has as many processes as a load has connections.",
)

STALL_TIMEOUT = th.Property(
    "stall_timeout",
    th.IntegerType(minimum=1),
    default=STALL_SECONDS,
    description="Seconds without a byte from a PostgreSQL server and without activity of its session after which a "
    "run fails.",
)

COMPRESSION = th.Property(
    "compression",
    th.StringType,
    allowed_values=[*SUFFIXES],
    default="none",
    description="How landed files are stored.",
)

DISK_HEADROOM = th.Property(
    "disk_headroom",
    th.IntegerType(minimum=0),
    default=50,
    description="How much of the files' expected size must be free in the landing zone before an extract begins, in "
    "percent. The size is an estimate, a rough one for compressed files. 0: do not check.",
)

FROM_LANDING = th.Property(
    "from_landing",
    th.BooleanType,
    default=False,
    description="Read one landed date of all sources instead of `files`.",
)
EXTRACTED_AT = th.Property(
    "extracted_at",
    th.StringType,
    description="The date to load, YYYY-MM-DD. Unset: EXTRACTED_AT, else today in UTC.",
)
SOURCES = th.Property(
    "sources",
    th.ArrayType(th.StringType),
    description="Sources to load. Unset: all sources of the date.",
)
