"""Meltano's log in its own JSON format (`meltano --log-format json`)."""

from __future__ import annotations

import json
from dataclasses import dataclass

FORMAT = ("--log-format", "json")


@dataclass(frozen=True)
class LogLine:
    """A line of the log. `origin` is the plugin that wrote it, or `meltano`; Meltano logs plugins' lines as `info`."""

    origin: str
    level: str
    message: str
    timestamp: str

    @property
    def notable(self) -> bool:
        """Whether it comes from a plugin, or is an error."""
        return self.origin != "meltano" or self.level == "error"

    def __str__(self) -> str:
        return f"{self.timestamp} [{self.level:9}] {self.origin:<16} {self.message}"


def parse(line: str) -> LogLine | None:
    """A line of the log; None for text in another format."""
    try:
        record = json.loads(line)
        message = "\n".join(filter(None, [record["event"], record.get("exception")]))
        return LogLine(record.get("string_id", "meltano"), record["level"], message, record["timestamp"])
    except (ValueError, TypeError, KeyError):
        return None
