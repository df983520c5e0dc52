"""What our plugins say to each other in Singer's own messages.

SCHEMA carries `x-landing` beside `properties`: which table of which source this is, what it refers to, the file of its
bad rows where it has some and, when it comes out of the landing zone, of which date and run.

BATCH has the encoding `csv`: files in the one dialect (dialect.py).

STATE, the last one, carries `landing`: each stream with its rows, and bytes and SHA-256 of its files. A target sees
only the end of its input when a tap dies, and cannot tell it from success; with this message it can. No proof, no
commit.
"""

from __future__ import annotations

from landing.model.naming import RUN_ID
from landing.singer.validator import DRAFTS, Validator

COMPLETION = "landing"

# The closing message: what is in it ends up in paths and manifests.
COUNT = {"type": "integer", "minimum": 0}

FILE = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "rows": COUNT, "bytes": COUNT, "stored": COUNT,
                   "sha256": {"type": "string", "pattern": r"\A[0-9a-f]{64}\Z"}},
    "required": ["path", "rows", "bytes", "sha256"],
    "additionalProperties": False,
}

STREAM = {
    "type": "object",
    "properties": {"rows": COUNT, "files": {"type": "array", "items": FILE}},
    "required": ["rows", "files"],
}
MOMENT = {"type": "string", "pattern": r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00\Z"}

PROOF = Validator({
    "type": "object",
    "properties": {
        "run_id": {"type": "string", "pattern": rf"\A{RUN_ID.pattern}\Z"},
        "streams": {"type": "object", "additionalProperties": STREAM},
        "source": {"type": "string"},
        "taken_at": MOMENT,
        "snapshot": {"type": "object"},
        "extracted_at": {"type": "string"},
        "started_at": MOMENT,
        "kept": {"type": "boolean"},
        "left_out": {"type": "object", "additionalProperties": {"type": ["array", "null"]}},
        "sources": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["run_id", "streams"],
}, DRAFTS[0])
