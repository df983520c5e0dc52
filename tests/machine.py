"""The state machine: random sequences of what people do with sources, landing zone and warehouse, checked at each step.

A step does one thing with the world, and notes in the model what has to come of it. Where the product may refuse (types
that do not widen, views of a person's in the way), it may, and then has to leave all as it was and say why. See
invariants.py for what holds after each step, and soak.py for long runs.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition
from step_accidents import Accidents
from step_commands import Commands
from step_databases import DatabaseChanges
from step_files import FileChanges
from step_protection import METHODS, ProtectionChanges
from steps import DAYS, SCHEMAS, step
from world import CANARY, CHECKS, CRM, PEOPLE, POSTGRES, SOURCES


class Machine(DatabaseChanges, FileChanges, ProtectionChanges, Commands, Accidents):
    """All steps."""

    def __init__(self) -> None:
        super().__init__()
        for source in (POSTGRES, CRM):
            self.world.change(source, "CREATE TYPE mood AS ENUM ('sad', 'glad');"
                              "CREATE TABLE t_0 (id integer PRIMARY KEY, a integer);"
                              "INSERT INTO t_0 VALUES (1, 10), (2, NULL);"
                              f"CREATE TABLE {PEOPLE} (id integer PRIMARY KEY, a integer, b text, c text, secret text, "
                              f"\"Größe\" text); INSERT INTO {PEOPLE} VALUES (1, 10, '1', NULL, '{CANARY}', 'gross')")

    @initialize(loaded=st.sampled_from([True, True, False]), sources=st.sampled_from([2, 3, 3]),
                by_key=st.sampled_from([None, 0, 1]), checked=st.sampled_from([False, False, True]),
                methods=st.sampled_from([{}, *METHODS]))
    def begin(self, loaded, sources, by_key, checked, methods):
        """Most examples begin with a date that is loaded and with INCREMENTAL tables, some with one database only."""
        self.world.by_key, self.world.checks = by_key, CHECKS if checked else {}
        self.protect(methods)
        if sources == 3:
            self._add_crm()
        if loaded:
            self.take_whole(DAYS[0])
            self.load_and_note(DAYS[0], SCHEMAS[0])

    @precondition(lambda self: CRM not in self.model.declared)
    @step()
    def add_a_source(self):
        """The second database: older dates stay complete without it."""
        self._add_crm()

    def _add_crm(self) -> None:
        if CRM not in self.model.declared:
            self.world.declare_crm()
            self.model.declared = SOURCES
