"""Steps about protected columns and their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import strategies as st
from model_protection import DROP, ENCRYPT, MASK, TOKEN, Keys
from step_loads import Loads
from steps import outcomes, places, sources, step
from world import parsed

METHODS = [  # by column; in each the column of CANARY has one
    {"secret": ENCRYPT, "b": MASK},
    {"secret": TOKEN, "id": TOKEN, "b": ENCRYPT},
    {"secret": MASK, "a": TOKEN, "c": DROP},
    {"secret": DROP, "a": ENCRYPT, "Größe": TOKEN},
]


class ProtectionChanges(Loads):
    """What happens to the setting `protect` and to PROTECTION_KEYS, and what the keys reveal."""

    @step(methods=st.sampled_from([{}, *METHODS]))
    def protect_others(self, methods):
        """Other columns are protected from now on."""
        self.protect(methods)

    def protect(self, methods: Mapping[str, str]) -> None:
        """Set the methods by column."""
        self.world.protection = replace(self.world.protection, methods=methods)
        items = self.world.entities["items"]
        of_key = {"id": TOKEN} if "id" in methods and not self.world.checks else {}
        self.world.entities["items"] = replace(items, protect=of_key)

    @step(token=st.sampled_from([False, False, True]))
    def rotate_keys(self, token):
        """A new key encrypts, and perhaps a new one makes tokens; the old ones reveal."""
        number, keys = next(self.numbers), self.world.protection.keys
        fresh = f"key {number}".encode().ljust(40)
        encryption = {f"key-{number}": fresh, **keys.encryption}
        self.world.protection = replace(
            self.world.protection, keys=Keys(fresh if token else keys.token, encryption))

    @step(number=places, source=sources, table=places)
    def reveal(self, number, source, table):
        """The keys give the values back."""
        found = [(at, name) for at, take in sorted(self.model.landed.items()) if self.model.whole(at[0], take)
                 for name, ways in sorted(take.ways.items()) if at[0] == source and ENCRYPT in ways.values()]
        if not found:
            return
        (_, day), name = found[(5 * number + table) % len(found)]
        expected = self.model.landed[source, day].revealed[name]
        ended = self.world.project.landing("reveal", day, name, "--source", source,
                                           PROTECTION_KEYS=self.world.protection.keys.variable)
        header, *rows = parsed(ended.stdout)
        outcomes["revealed"] += 1
        assert header == tuple(expected.columns), f"{source} of {day}, {name}: {header}, and not {expected.columns}"
        assert sorted(rows, key=repr) == sorted(expected.rows, key=repr), f"{source} of {day}, {name} is not revealed"
