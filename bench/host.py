"""What a result was measured on: machine, versions."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from databases import ROOT, Databases

HERE = Path(__file__).resolve().parent


def describe() -> dict[str, str | int]:
    """The machine, and every version that is pinned."""
    return {"cores": os.cpu_count(), "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
            "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
            "system": _field("/etc/os-release", "PRETTY_NAME").strip('"') or platform.platform(),
            "Python": platform.python_version(), "commit": _commit(), "versions": ", ".join(_versions())}


def server(databases: Databases) -> dict[str, str]:
    """PostgreSQL's version and settings."""
    [(version,)] = databases.sql("postgres", "SHOW server_version")
    return {"PostgreSQL": f"{version} on the loopback, " + ", ".join(f"{k}={v}" for k, v in databases.settings.items())}


def _field(path: str, name: str) -> str:
    """The value of the first line that begins with a name, in a file of Linux's."""
    text = Path(path).read_text() if Path(path).exists() else ""
    found = re.search(rf"^{name}\s*[:=]\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _versions() -> list[str]:
    """`name version` of what stands in the requirements.in of Meltano and of each peer."""
    paths = [ROOT / "requirements.in", *sorted(HERE.glob("peers/*/requirements.in"))]
    text = "\n".join(path.read_text() for path in paths)
    pins = re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==([^;\s]+)(?!.*python_version <)", text, re.MULTILINE)
    return [f"{name} {version}" for name, version in pins if not name.endswith("arm64")]
