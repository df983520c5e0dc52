"""The state machine's frame: steps are counted, failures noted, and after each step all is checked.

Classes of steps build on each other: Steps, Extracts, Loads; on these, changes of sources, commands and accidents;
machine.py joins them.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import invariants
from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from model import Model, Take
from world import CRM, CSV, POSTGRES, SOURCES, Ended, World

DAYS = ["2024-01-20", "2024-01-21", "2024-01-22", "2024-02-29", "today"]
SCHEMAS = ["public", "mart"]

databases = st.sampled_from([POSTGRES, CRM])
sources = st.sampled_from(SOURCES)
days = st.sampled_from(DAYS)
schemas = st.sampled_from(["public", "public", "mart"])
places = st.integers(0, 4)
counts = collections.Counter()  # steps of all examples in this process, by rule
outcomes = collections.Counter()
failures: list[str] = []  # as they came, for one that does not come again when Hypothesis repeats its steps

@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Note a failure."""
    try:
        yield
    except AssertionError:
        failures.append(traceback.format_exc())
        raise


def step(**arguments: st.SearchStrategy) -> Callable:
    """A rule that is counted."""

    def decorate(function: Callable) -> Callable:
        @rule(**arguments)
        @functools.wraps(function)
        def counted(machine: Steps, **given: object) -> None:
            counts[function.__name__] += 1
            with noted():
                function(machine, **given)
        return counted

    return decorate


class Steps(RuleBasedStateMachine):
    """One example: a project of its own. The one who runs it sets `server` and, for a landing zone in it, `store`."""

    server = store = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.world, self.model = World(self.server, self.folder / "project", self.store), Model((POSTGRES, CSV))
        self.today = current_date()
        outcomes["examples"] += 1
        self.changed = False  # by the last step: landing zone or warehouse
        self.saved: list[tuple[str, str, bool, Path, Take]] = []  # outputs of taps
        self.saved_loads: list[tuple[str, tuple[str, ...], Path, dict[str, Take]]] = []
        self.people: dict[str, tuple[str, str, str, str]] = {}  # schema, table, column and kind of what people built
        self.numbers = itertools.count()

    def known(self, source: str) -> str:
        """The source, or another one while it is not declared."""
        return source if source in self.model.declared else POSTGRES

    def teardown(self) -> None:
        self.world.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @invariant()
    def holds(self) -> None:
        with noted():
            self.check()

    def check(self) -> None:
        if current_date() != self.today:
            reject()  # the model's today is over
        if not self.changed:
            return
        self.changed = False
        invariants.landing_zone(self.world, self.model)
        invariants.warehouse(self.world, self.model)
        invariants.people(self.world, self.model, self.people)
        invariants.proofs(self.world, self.model)

    def day(self, day: str) -> str:
        """The date that one of DAYS is."""
        return self.today if day == "today" else day

    def next_day(self, *some: str) -> str:
        """The date after the newest that is landed."""
        landed = max((day for source, day in self.model.landed if source in some), default="")
        return next((day for day in map(self.day, DAYS) if day > landed), self.today)

    def refused(self, ended: Ended, *, may: bool) -> None:
        """A run that failed: whether it may, and whether it says why."""
        outcomes["refused"] += 1
        assert "Traceback" not in ended.text, ended.text
        assert may, f"a run failed that has to end well:\n{ended.text}"
        assert ended.text.strip(), "a run failed without a word"


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def current_date() -> str:
    """In UTC."""
    return datetime.now(UTC).date().isoformat()
