"""Steps of the demo and the examples, in the working directory. Each command is printed before it runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import meltano_log
from servers import PROJECT

# Of dbt, whose lines come as Meltano's own.
TOLD = re.compile(r"\d+ of \d+ (?:OK|WARN|FAIL|ERROR|SKIP|models and tests failed)|Done\.|dbt ended with")


def say(text: str) -> None:
    print(text, flush=True)


def meltano(log_file: Path, environment: str, jobs: list[str], **variables: str) -> None:
    """Run jobs and print the plugins' log lines; Meltano's full log goes to `log_file`. Exits if a job fails."""
    shown = " ".join(f"{name}={value}" for name, value in variables.items())
    say(f"\n$ MELTANO_ENVIRONMENT={environment} {shown} meltano run {' '.join(jobs)}")
    command = [PROJECT / ".venv/bin/meltano", *meltano_log.FORMAT, "run", *jobs]
    inherited = {name: value for name, value in os.environ.items() if name not in ("SOURCE", "SCHEMA", "PYTHONPATH")}
    environ = inherited | {"MELTANO_ENVIRONMENT": environment, **variables}
    with log_file.open("a") as log, subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            entry = meltano_log.parse(line)
            log.write(f"{entry or line.rstrip()}\n")
            if entry and entry.notable:
                say(f"  {entry.origin:<12} {entry.message}")
            elif entry and TOLD.search(entry.message):
                say(f"  {'dbt':<12} {entry.message}")
    if process.returncode:
        sys.exit(f"meltano run {' '.join(jobs)} failed. Full log: {log_file}")


def verify(day: str, **variables: str) -> None:
    """Verify every table. Raises CalledProcessError if one differs."""
    say(f"\n$ meltano invoke landing verify {day}")
    command = [PROJECT / "plugins/.venv/bin/landing", "verify", day]
    subprocess.run(command, env=os.environ | variables, check=True)
