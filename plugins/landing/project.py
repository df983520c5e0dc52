"""What the project and its environment say: declared sources, dates, the landing root, the commands to run next."""

from __future__ import annotations

import os
import re
from datetime import date, datetime, timezone
from pathlib import Path

from landing.errors import SettingError

JOB_PREFIX = "extract_"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def root() -> Path:
    """The Meltano project's folder (Meltano tells its plugins), else the working directory."""
    return Path(os.environ.get("MELTANO_PROJECT_ROOT") or Path.cwd()).resolve()


def landing_root(configured: str | None = None) -> Path:
    """Folder of the landing zone: the setting, else LANDING_ROOT, else `output`; relative to the project."""
    return root() / (configured or os.environ.get("LANDING_ROOT") or "output")


def settings() -> dict[str, str]:
    """What the project's .env sets, and over it the environment."""
    from dotenv import dotenv_values  # here: plugins get all of it from Meltano

    return {key: value or "" for key, value in dotenv_values(root() / ".env").items()} | os.environ


def today() -> date:
    """Today's date in UTC, whatever the machine's time zone."""
    return datetime.now(timezone.utc).date()


def parse_date(text: str, where: str) -> date:
    """A UTC calendar date from exactly `YYYY-MM-DD`; anything else raises SettingError."""
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError:
        raise SettingError(
            f"{where}={text!r} is not a date. Expected a calendar date as YYYY-MM-DD, such as {where}={today()}; "
            "leave it unset for today in UTC."
        ) from None


def run_date(variable: str, configured: str | None = None) -> date:
    """The date of this run: the setting, else the variable, else today in UTC. Empty is refused, not today."""
    text = os.environ.get(variable) if configured is None else str(configured)
    return today() if text is None else parse_date(text, variable)


def source_name(configured: str | None = None, default: str | None = None) -> str:
    """The source whose date is landed: the setting, else SOURCE, else the tap's own name for it.

    SOURCE may be left over from another job: to land one declared source in another's place is refused.
    """
    said = os.environ.get("SOURCE")
    name = configured if configured is not None else said if said is not None else default
    own = configured or default
    if said is not None and said != own and {said, own} <= {*declared_sources()}:
        raise SettingError(
            f"SOURCE={said}, and this job lands source {own}. Run again with SOURCE={own}, or without SOURCE; a plugin "
            f"that inherits from this one and is to land {said} says so in meltano.yml: `source: {said}`."
        )
    if name is None:
        raise SettingError(
            "This tap does not say which source it is, and SOURCE is unset. Run again with SOURCE=<name>."
        )
    if not NAME.fullmatch(name):
        raise SettingError(
            f"SOURCE={name!r} is not a name for a source. Expected letters, digits, '_', '-' and '.'; "
            f"declared here: {', '.join(declared_sources()) or 'none'}."
        )
    return name


def declared_sources() -> list[str]:
    """Names of the sources that the project declares: one for each job `extract_<source>` in meltano.yml."""
    import yaml  # here: not every start of a plugin needs it

    try:
        jobs = (yaml.safe_load((root() / "meltano.yml").read_text("utf-8")) or {}).get("jobs") or []
    except FileNotFoundError:
        return []
    return [job["name"].removeprefix(JOB_PREFIX) for job in jobs if job["name"].startswith(JOB_PREFIX)]


def flag(variable: str) -> bool:
    """Whether a yes/no variable such as REEXTRACT is switched on; unknown words are refused."""
    text = os.environ.get(variable, "").strip().lower()
    if text not in {"", "0", "1", "false", "no", "true", "yes"}:
        raise SettingError(f"{variable}={text!r} is neither true nor false. Run again with {variable}=true, or unset.")
    return text in {"1", "true", "yes"}


def extract_command(source: str, day: date) -> str:
    """What to type to land one source for one date."""
    return f"MELTANO_ENVIRONMENT=extract SOURCE={source} DATESTAMP={day} meltano run {JOB_PREFIX}{source}"


def load_command(day: date, schema: str) -> str:
    """What to type to load one date."""
    return f"MELTANO_ENVIRONMENT=load SCHEMA={schema} EXTRACTED_AT={day} meltano run load_to_postgres"
