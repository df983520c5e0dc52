"""One example: a Meltano project in a folder of its own, and the servers and files that it reads."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from types import ModuleType

import servers
import yaml
from dotenv import dotenv_values
from landing.api import SettingError

EXAMPLES = Path(__file__).resolve().parent
SAMPLE = "output/sample"  # landing zone of the sample
DEFAULTS = {"PORT": "5432", "PASSWORD": "", "SSLMODE": "prefer"}


@dataclass(frozen=True)
class Example:
    """A folder below examples/ with a `meltano.yml`.

    Its `generate.py` has `generate(day)`, which brings the sample to a date: a PostgreSQL source that SOURCE_POSTGRES_*
    name, or CSV files below the working directory. For CSV files its `FILES` is the path of the sample's. It may have
    `SCHEMA`, `serving(sampled)`, `loaded(day, schema)`, which runs between load and transform, and `has_new_files()`.
    """

    name: str

    @classmethod
    def all(cls) -> list[Example]:
        return [cls(path.parent.name) for path in sorted(EXAMPLES.glob("*/meltano.yml"))]

    @classmethod
    def named(cls, name: str | None) -> Example:
        """Raises SettingError if there is none of this name."""
        if found := [one for one in cls.all() if one.name == name]:
            return found[0]
        given = f"NAME={name!r} is not an example. " if name else ""
        raise SettingError(f"{given}Run make example NAME=… with one of: {', '.join(one.name for one in cls.all())}.")

    @property
    def schema(self) -> str:
        """Where its tables go unless SCHEMA says otherwise."""
        return getattr(self.generator, "SCHEMA", self.name)

    def serving(self, sampled: bool) -> contextlib.AbstractContextManager[None]:
        """Has what it needs besides PostgreSQL running, with its variables in the environment."""
        given = getattr(self.generator, "serving", None)
        return given(sampled) if given else contextlib.nullcontext()

    def loaded(self, day: date, schema: str) -> None:
        """What it does between load and transform."""
        if given := getattr(self.generator, "loaded", None):
            given(day, schema)

    def has_new_files(self) -> bool:
        """Whether files have come that no run has landed."""
        given = getattr(self.generator, "has_new_files", None)
        return bool(given and given())

    @property
    def folder(self) -> Path:
        return EXAMPLES / self.name

    @property
    def env(self) -> Path:
        return self.folder / ".env"

    @cached_property
    def generator(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"generate_{self.name}", self.folder / "generate.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @cached_property
    def reads_database(self) -> bool:
        """Whether its source is a database; else CSV files."""
        plugins = yaml.safe_load((self.folder / "meltano.yml").read_text("utf-8"))["plugins"]
        return any(one["name"] == "tap-postgres" for one in plugins["extractors"])

    def enter(self) -> None:
        """Make its folder the working directory and Meltano's project, and have its settings in the environment."""
        if files := os.environ.get("FILES"):  # relative to where make was called
            os.environ["FILES"] = files if "://" in files else str(Path(files).absolute())
        os.chdir(self.folder)
        os.environ["MELTANO_PROJECT_ROOT"] = str(self.folder)
        (self.folder / ".meltano").mkdir(mode=0o700, exist_ok=True)  # Meltano writes passwords into it

    def connect(self) -> bool:
        """Put servers, files and landing zone into the environment; start the embedded PostgreSQL if it is needed.

        Returns:
            Whether it runs on the sample.
        """
        found = self._configured()
        sampled = not found.get("SOURCE_POSTGRES_HOST" if self.reads_database else "FILES")
        # What the sample lands and loads never mixes with what real servers do.
        defaults = {"LANDING_ROOT": SAMPLE if sampled else "output", "SCHEMA": self.schema}
        databases = {"SOURCE": self.name} if self.reads_database else {}
        databases |= {"TARGET": f"{self.name}_warehouse" if sampled else f"{self.name}_own_warehouse"}
        if not self.reads_database:
            defaults["FILES"] = self.generator.FILES
        embedded = {side: name for side, name in databases.items() if not found.get(f"{side}_POSTGRES_HOST")}
        for side in databases.keys() - embedded.keys():
            found = {f"{side}_POSTGRES_{name}": value for name, value in DEFAULTS.items()} | found
        os.environ.update(defaults | {name: value for name, value in found.items() if value or name not in defaults})
        if embedded:
            self._start(embedded, defaults, write=sampled and embedded == databases)
        return sampled

    def _configured(self) -> Mapping[str, str]:
        """What the environment sets, over the example's `.env`, over the project's servers and FILES; not the demo."""
        found = {}
        if not servers.ours():
            found |= {name: _in_project(name, value) for name, value in _values(servers.ENV).items()
                      if "_POSTGRES_" in name or name == "FILES"}
        if not servers.ours(self.env):
            found |= {name: value for name, value in _values(self.env).items() if not self._is_sample(name, value)}
        return found | os.environ

    def _is_sample(self, name: str, value: str) -> bool:
        """Whether a line of `.env` is the sample's, left when a person entered servers into the file that we wrote."""
        return value == {"LANDING_ROOT": SAMPLE, "FILES": getattr(self.generator, "FILES", None)}.get(name)

    def _start(self, databases: Mapping[str, str], defaults: Mapping[str, str], write: bool) -> None:
        """Start the embedded server with these databases, by side."""
        server = servers.Server(servers.DEMO)
        server.start()
        variables = {}
        for side, name in databases.items():
            server.create_database(name)
            variables |= servers.connection_variables(server, side, name)
        os.environ.update(variables)
        if write and servers.ours(self.env):
            servers.write_env(self.env, servers.env_file_text(self.env, variables, defaults))


def _in_project(name: str, value: str) -> str:
    """A value of the project's `.env`, where FILES is relative to the project."""
    return str(servers.PROJECT / value) if name == "FILES" and value and "://" not in value else value


def _values(env: Path) -> dict[str, str]:
    return {name: value or "" for name, value in dotenv_values(env).items()}
