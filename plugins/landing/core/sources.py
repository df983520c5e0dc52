"""What the project and its environment say: declared sources, dates, the landing root, the commands to run next."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from landing.core.errors import SettingError
from landing.core.settings import root, settings

JOB_PREFIX = "extract_"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def source_name(configured: str | None = None, default: str | None = None) -> str:
    """The one rule for a run's source: the setting `source`, else SOURCE, else the tap's job, else `default`.

    The tap's job is the one job `extract_<source>` that runs the plugin which Meltano says is the extractor. `default`
    is the name that a stock tap has for itself or, in a target, the name that the tap sent. Raises SettingError where
    two of these name different sources of this project, or where none names one.
    """
    jobs, said = sources_of(os.environ.get("MELTANO_EXTRACTOR_NAME")), os.environ.get("SOURCE")
    if configured and jobs and configured not in jobs:
        raise SettingError(
            f"{job_of(jobs[0])} in meltano.yml lands source {jobs[0]}, and its plugin says `source: {configured}`: "
            f"a load would look for {jobs[0]}. Remove `source` there, or call the job {job_of(configured)}; then run "
            "again."
        )
    own = configured or (jobs[0] if len(jobs) == 1 else None if jobs else default)
    if said is not None and said != own and {said, own} <= {*declared_sources()}:
        raise SettingError(f"SOURCE={said}, and this job lands source {own}. Run again with SOURCE={own}, or without "
                           f"SOURCE; to land {said}, run {job_of(said)}.")
    name = configured if configured is not None else said if said is not None else own
    if name is None:
        raise _unknown_source(jobs)
    return checked_source(name)


def checked_source(name: str) -> str:
    """A source's name, which becomes part of paths and commands; SettingError for anything else."""
    if not NAME.fullmatch(name):
        raise SettingError(
            f"SOURCE={name!r} is not a name for a source. Expected letters, digits, '_', '-' and '.', 100 at most; "
            f"declared here: {', '.join(declared_sources()) or 'none'}."
        )
    return name


def stock_source(name: str) -> str | None:
    """A stock tap's own name for its source; None for a plugin that inherits from it, whose job has to name it."""
    return name if os.environ.get("MELTANO_EXTRACTOR_NAME", f"tap-{name}") == f"tap-{name}" else None


def _unknown_source(jobs: Sequence[str]) -> SettingError:
    tap = os.environ.get("MELTANO_EXTRACTOR_NAME", "This tap")
    if jobs:
        return SettingError(f"{tap} is run by {' and by '.join(map(job_of, jobs))}, so it is not known which source "
                            f"this run lands. Run again with SOURCE={jobs[0]}, or give each job a plugin of its own.")
    return SettingError(f"{tap} does not say which source it is: no job extract_<source> in meltano.yml runs it, and "
                        "SOURCE is unset. Declare that job, or run again with SOURCE=<name>.")


def sources_of(extractor: str | None) -> list[str]:
    """Sources whose job `extract_<source>` runs this extractor; raises SettingError where such a job runs two."""
    if extractor is None:
        return []
    found = []
    for source, taps in _taps_by_source().items():
        if extractor in taps:
            found.append(source)
            if len(taps) > 1:
                raise SettingError(
                    f"{job_of(source)} in meltano.yml runs {' and '.join(taps)}: each would replace what the other "
                    f"landed as source {source}. Give each a job extract_<source> of its own, and run again."
                )
    return found


def declared_sources() -> list[str]:
    """Names of the sources that the project declares: one for each job `extract_<source>` in meltano.yml."""
    return list(_taps_by_source())


def _taps_by_source() -> dict[str, list[str]]:
    """The extractors that each job `extract_<source>` runs, in order, each once."""
    plugins = {one["name"] for one in (_declared().get("plugins") or {}).get("extractors") or []}
    found = {}
    for job in _declared().get("jobs") or []:
        if job["name"].startswith(JOB_PREFIX):
            name = job["name"].removeprefix(JOB_PREFIX)
            if not NAME.fullmatch(name):
                raise SettingError(f"meltano.yml: job {job['name']!r} declares the source {name!r}, which is not a "
                                   "name for one. Expected letters, digits, '_', '-' and '.', 100 at most.")
            words = dict.fromkeys(_words(job.get("tasks")))
            found[name] = [word for word in words if word in plugins or word.startswith("tap-")]
    return found


def _words(tasks: Any) -> Iterator[str]:
    """Plugins in a job's tasks, which are text such as `tap-x target-y`, or lists of it."""
    if isinstance(tasks, str):
        yield from tasks.split()
    for one in tasks if isinstance(tasks, list) else ():
        yield from _words(one)


def job_of(source: str) -> str:
    return JOB_PREFIX + source


def source_schemas() -> list[str]:
    """`filter_schemas` of tap-postgres, from its variable or from meltano.yml; none: all but PostgreSQL's own."""
    if said := settings().get("TAP_POSTGRES_FILTER_SCHEMAS"):
        try:
            return [str(name) for name in json.loads(said)]
        except (ValueError, TypeError):
            raise SettingError(f"TAP_POSTGRES_FILTER_SCHEMAS={said!r} is not a list in JSON. Expected one such as "
                               '["public", "crm"]; correct it, and run again.') from None
    extractors = (_declared().get("plugins") or {}).get("extractors") or []
    config = next((one.get("config") for one in extractors if one["name"] == "tap-postgres"), None) or {}
    return config.get("filter_schemas") or []


def _declared() -> dict[str, Any]:
    """The contents of meltano.yml; empty where there is none."""
    try:
        return _parsed((root() / "meltano.yml").read_text("utf-8"))
    except FileNotFoundError:
        return {}


@functools.lru_cache(4)
def _parsed(text: str) -> dict[str, Any]:
    import yaml  # here: not every start of a plugin needs it

    return yaml.safe_load(text) or {}
