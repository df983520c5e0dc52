"""Sources that the project declares: one for each job `extract_<source>` in meltano.yml."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from landing.core.errors import SettingError
from landing.core.settings import root, settings
from landing.core.variables import of_variable

JOB_PREFIX = "extract_"
CONNECTIONS, MOST_CONNECTIONS = 2, 64  # the setting `connections`: its default, and its maximum
SAME_PATH = 400  # days before and after a date whose path may be the same
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def source_name(configured: str | None = None, default: str | None = None) -> str:
    """The source of a run: the setting `source`, else SOURCE, else the tap's job, else `default`.

    The tap's job is the only job `extract_<source>` that runs the plugin in MELTANO_EXTRACTOR_NAME.

    Args:
        configured: The setting `source`.
        default: A stock tap's own name for its source or, in a target, the name that the tap sent.

    Raises:
        SettingError: These name different sources of this project, or none at all.
    """
    jobs, requested = sources_of(os.environ.get("MELTANO_EXTRACTOR_NAME")), os.environ.get("SOURCE")
    if configured and jobs and configured not in jobs:
        raise SettingError(
            f"{job_of(jobs[0])} in meltano.yml lands source {jobs[0]}, but its plugin has `source: {configured}`, and "
            f"a load would look for {jobs[0]}. Remove `source` there, or rename the job to {job_of(configured)}; then "
            "run again."
        )
    own = configured or (jobs[0] if len(jobs) == 1 else None if jobs else default)
    if requested is not None and requested != own and {requested, own} <= {*declared_sources()}:
        raise SettingError(f"SOURCE={requested}, but this job lands source {own}. Run again with SOURCE={own}, or "
                           f"without SOURCE; to land {requested}, run {job_of(requested)}.")
    name = configured if configured is not None else requested if requested is not None else own
    if name is None:
        raise _unknown_source(jobs)
    return checked_source(name)


def checked_source(name: str) -> str:
    """Validate a source's name, which becomes part of paths and commands. Raises SettingError."""
    if not NAME.fullmatch(name):
        raise SettingError(
            f"SOURCE={name!r} is not a valid source name. Expected up to 100 letters, digits, '_', '-' and '.'. "
            f"Declared sources: {', '.join(declared_sources()) or 'none'}."
        )
    return name


def stock_source(name: str) -> str | None:
    """A stock tap's own name for its source; None for a plugin that inherits from it: its job names the source."""
    return name if os.environ.get("MELTANO_EXTRACTOR_NAME", f"tap-{name}") == f"tap-{name}" else None


def _unknown_source(jobs: Sequence[str]) -> SettingError:
    tap = os.environ.get("MELTANO_EXTRACTOR_NAME", "This tap")
    if jobs:
        return SettingError(f"{' and '.join(map(job_of, jobs))} run {tap}, so the source of this run is ambiguous. "
                            f"Run again with SOURCE={jobs[0]}, or give each job its own plugin.")
    return SettingError(f"The source of {tap} is unknown: no job extract_<source> in meltano.yml runs it, and SOURCE "
                        "is unset. Declare that job, or run again with SOURCE=<name>.")


def sources_of(extractor: str | None) -> list[str]:
    """Sources whose job `extract_<source>` runs this extractor. Raises SettingError if such a job runs two."""
    if extractor is None:
        return []
    found = []
    for source, taps in _taps_by_source().items():
        if extractor in taps:
            found.append(source)
            if len(taps) > 1:
                raise SettingError(
                    f"{job_of(source)} in meltano.yml runs {' and '.join(taps)}, and each would replace the other's "
                    f"rows of source {source}. Give each its own job extract_<source>, and run again."
                )
    return found


def declared_sources() -> list[str]:
    """Names of all declared sources."""
    return list(_taps_by_source())


def without_sources() -> list[str]:
    """Names in WITHOUT_SOURCES, separated by commas: sources that a load and a verification leave out."""
    return [*dict.fromkeys(filter(None, map(str.strip, os.environ.get("WITHOUT_SOURCES", "").split(","))))]


def _taps_by_source() -> dict[str, list[str]]:
    """Extractors of each job `extract_<source>`, in order, without duplicates."""
    plugins = {one["name"] for one in (_declared().get("plugins") or {}).get("extractors") or []}
    found = {}
    for job in _declared().get("jobs") or []:
        if job["name"].startswith(JOB_PREFIX):
            name = job["name"].removeprefix(JOB_PREFIX)
            if not NAME.fullmatch(name):
                raise SettingError(f"meltano.yml: job {job['name']!r} declares the source {name!r}, which is not a "
                                   "valid name. Expected up to 100 letters, digits, '_', '-' and '.'.")
            words = dict.fromkeys(_words(job.get("tasks")))
            found[name] = [word for word in words if word in plugins or word.startswith("tap-")]
    return found


def _words(tasks: Any) -> Iterator[str]:
    """Plugins of a job's tasks: strings such as `tap-x target-y`, or nested lists of them."""
    if isinstance(tasks, str):
        yield from tasks.split()
    for one in tasks if isinstance(tasks, list) else ():
        yield from _words(one)


def job_of(source: str) -> str:
    """The name of the job that lands a source."""
    return JOB_PREFIX + source


def source_schemas() -> list[str]:
    """`filter_schemas` of tap-postgres, from its variable or meltano.yml; empty: all but PostgreSQL's own."""
    return [str(name) for name in _setting("extractors", "tap-postgres", "filter_schemas", ["public", "crm"])]


def source_keys() -> dict[str, Any]:
    """`keys` of tap-postgres, from its variable or meltano.yml: declared keys by `schema.table`."""
    return _setting("extractors", "tap-postgres", "keys", {"public.events": ["id"]})


def source_protect() -> dict[str, Any]:
    """`protect` of tap-postgres, from its variable or meltano.yml: methods by table and column."""
    return _setting("extractors", "tap-postgres", "protect", {"public.customers": {"email": "encrypt"}})


def table_names() -> dict[str, Any]:
    """`table_names` of target-postgres, from its variable or meltano.yml: Meltano passes it to the plugin only."""
    return _setting("loaders", "target-postgres", "table_names", {"crm": "crm.{table}"})


def table_checks() -> dict[str, Any]:
    """`checks` of target-postgres, likewise."""
    return _setting("loaders", "target-postgres", "checks", {"postgres": {"orders": {"min_rows": 1}}})


def migrations_folder() -> str | None:
    """`migrations` of target-postgres, likewise; None if it is not set."""
    return settings().get("TARGET_POSTGRES_MIGRATIONS") or _config("loaders", "target-postgres").get("migrations")


def load_connections() -> int:
    """`connections` of target-postgres, likewise. Raises SettingError for what is no such number."""
    if text := settings().get("TARGET_POSTGRES_CONNECTIONS"):
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_CONNECTIONS):
            raise SettingError(f"TARGET_POSTGRES_CONNECTIONS={text!r} is not a number from 1 to {MOST_CONNECTIONS}. "
                               "Correct it, and run again.")
        return int(text)
    declared = _config("loaders", "target-postgres").get("connections")
    return declared if isinstance(declared, int) else CONNECTIONS  # Meltano refuses, or resolves, anything else


def _setting(plugins: str, plugin: str, name: str, example: Any) -> Any:
    """A plugin's setting, from its variable or meltano.yml."""
    found = of_variable(plugin, name, example, settings())
    return (_config(plugins, plugin).get(name) or type(example)()) if found is None else found


def _config(plugins: str, plugin: str) -> dict[str, Any]:
    """A plugin's settings in meltano.yml."""
    declared = (_declared().get("plugins") or {}).get(plugins) or []
    return next((one.get("config") for one in declared if one["name"] == plugin), None) or {}


def has_files_of_each_date(source: str, day: date) -> bool:
    """Whether all CSV files of a source have the date in their path, so that a past date is extracted as it was."""
    extractors = {one["name"]: one for one in (_declared().get("plugins") or {}).get("extractors") or []}
    taps = _taps_by_source().get(source, [])
    plugin, config = extractors.get(taps[0] if len(taps) == 1 else ""), {}
    while plugin:
        config = (plugin.get("config") or {}) | config
        plugin = extractors.get(plugin.get("inherit_from"))
    paths = [str(entry.get("path")) for entry in config.get("files") or []]
    try:
        return bool(paths) and all(is_of_one_date(path, day) for path in paths)
    except (ValueError, LookupError, AttributeError):  # a path that the tap will refuse
        return False


def is_of_one_date(path: str, day: date) -> bool:
    """Whether no other date within a year and more has the same path, as with `{date:%Y-%m}` or `{date:%a}`."""
    others = {*range(day.toordinal() - SAME_PATH, day.toordinal() + SAME_PATH + 1)} - {day.toordinal()}
    return all(path.format(date=date.fromordinal(other)) != path.format(date=day)
               for other in others if 1 <= other <= date.max.toordinal())


def declares(extractor: str) -> bool:
    """Whether meltano.yml has an extractor of this name, or none at all: a project without that file."""
    extractors = (_declared().get("plugins") or {}).get("extractors")
    return extractors is None or any(one["name"] == extractor for one in extractors)


def _declared() -> dict[str, Any]:
    """The contents of meltano.yml; empty if it does not exist."""
    try:
        return _parsed((root() / "meltano.yml").read_text("utf-8"))
    except FileNotFoundError:
        return {}


@functools.lru_cache(4)
def _parsed(text: str) -> dict[str, Any]:
    import yaml  # imported here: not every plugin start needs it

    return yaml.safe_load(text) or {}
