"""What our plugins say to each other in Singer's own messages.

SCHEMA carries `x-landing` beside `properties`: which table of which source this is, what it refers to, the file of its
bad rows where it has some and, when it comes out of the landing zone, of which date and run.

BATCH has the encoding `csv`: files in the one dialect (dialect.py).

STATE, the last one, carries `landing`: each stream with its rows, and bytes and SHA-256 of its files. A target sees
only the end of its input when a tap dies, and cannot tell it from success; with this message it can. No proof, no
commit.
"""

from __future__ import annotations

from singer_sdk import typing as th

from landing.postgres.session import STALL_TIMEOUT as STALL_SECONDS
from landing.storage.compression import SUFFIXES

LANDING_ROOT = th.Property(
    "landing_root",
    th.StringType,
    description="Folder of the landing zone, relative to the project. Unset: LANDING_ROOT, else `output`.",
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
    description="Send files (BATCH, encoding csv) to our own targets. Switch it off for a target of somebody else: "
    "then the same rows go as RECORDs.",
)

CONNECTIONS = th.Property(
    "connections",
    th.IntegerType(minimum=1, maximum=64),
    default=2,
    description="How many connections copy rows at the same time; one more holds the snapshot, or the lock of a load.",
)

STALL_TIMEOUT = th.Property(
    "stall_timeout",
    th.IntegerType(minimum=1),
    default=STALL_SECONDS,
    description="Seconds without a byte from a PostgreSQL server whose session is not at work either, after which a "
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
    description="How much of the files' expected size has to be free in the landing zone before an extract begins, in "
    "percent. It is an estimate, and more so of compressed files: 0 begins in any case.",
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
    description="That date, YYYY-MM-DD. Unset: EXTRACTED_AT, else today in UTC.",
)
SOURCES = th.Property(
    "sources",
    th.ArrayType(th.StringType),
    description="Sources that a load takes. Unset: one for each job extract_<source>.",
)
