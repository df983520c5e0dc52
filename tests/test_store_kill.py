"""`landing copy` and `landing export` to a store, killed at any request: the old date is there or the new one."""

import json
import subprocess

import pytest
import warm
from conftest import BIN
from disturber import AFTER, Disturber
from in_process import serverless
from landing.zone.gc import ZoneLeftovers, removed
from landing.zone.landing_zone import LandingZone
from store_chaos import Killer, whole
from zones import land

DAY = "2024-01-20"
PARTITION = f"source=postgres/extracted_at={DAY}"
FILES = {"a": ["0.csv", "q.jsonl"]}
EVERY = 3  # request; 1 takes a minute


class Sent:
    """A landing zone in a folder, and another root in a store, to which a command brings its date."""

    def __init__(self, command, folder, store):
        self.command, self.folder, self.store, self.root = command, folder, store, store.url()
        self.here = LandingZone.at(folder / "output")

    def run(self, killer=None):
        """Run the command through a proxy; its exit status."""
        with Disturber(self.store) as proxy:
            killer = proxy.rule = killer or Killer()
            killer.process = warm.Plugin(
                [BIN / "landing", *self.command, DAY, "--to", self.root], cwd=self.folder, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env={"MELTANO_PROJECT_ROOT": str(self.folder), "LANDING_ROOT": "output",
                                                **self.store.environment(proxy.port)})
            killer.started.set()
            return killer.process.wait(60)

    @property
    def manifest(self):
        return json.loads(self.store.read(f"{self.root.split('/', 3)[3]}/{PARTITION}/_manifest.json"))

    def there(self):
        """The landed run that is there, with all its files as their hashes say."""
        whole(self.store, self.root, PARTITION)
        manifest = self.manifest
        return manifest.get("landed", manifest)["run_id"]

    def listed(self):
        """Keys of the files that the manifest lists, and its own."""
        files = [file["path"] for table in self.manifest["tables"]
                 for file in [*table["files"], *filter(None, [table.get("quarantine")])]]
        return {f"{PARTITION}/{path}" for path in [*files, "_manifest.json"]}

    def swept(self):
        """Keys that are left of the date after gc."""
        zone = LandingZone.at(self.root)
        assert not [wrong for _, wrong in removed(ZoneLeftovers(zone, older_than=0)) if wrong]
        return {*zone.storage.walk(PARTITION)}


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
@pytest.mark.parametrize("command", [("copy", "--replace"), ("export", "--format", "parquet")], ids=["copy", "export"])
def test_a_kill_at_any_request_leaves_the_old_date_or_the_new_one_and_the_next_run_completes_it(
        store, command, tmp_path, monkeypatch):
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    with serverless(tmp_path, DAY):
        outcomes, fired = [], True
        while fired:
            sent = Sent(command, tmp_path, store)
            old = land(sent.here, files=FILES)
            assert sent.run() == 0
            new = land(sent.here, rows=4, files=FILES)
            status = sent.run(killer := Killer(EVERY * len(outcomes), AFTER))
            fired = killer.fired
            assert bool(status) == bool(fired)
            assert sent.there() in (old, new), fired
            outcomes.append(sent.there() == new)
            assert sent.run() == 0
            assert sent.there() == new, fired
            if command[0] == "copy":  # what a killed export leaves goes with the next one after a day
                assert sent.swept() == sent.listed(), fired
    assert {*outcomes[:-1]} == {False, True}
