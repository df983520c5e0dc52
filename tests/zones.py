"""Landing zones without a server: dates with files of every kind, and a kill at any step of a storage."""

from datetime import date

from landing.core.dates import now
from landing.model.manifest import Manifest
from landing.model.naming import new_run_id
from landing.model.schema import Column, File, Table
from landing.storage import hashing
from landing.storage.local import LocalStorage
from landing.zone.commit import commit

D1 = "2024-01-20"
FILES = {"a": ["0.csv", "1.csv", "q.jsonl"], "g": ["2.csv.gz"], "z": ["3.csv.zst"], "e é%": ["4.csv"]}  # by table
STEPS = ("create", "move", "copy", "put", "flush", "append", "delete", "delete_each", "delete_all")


def land(zone, day=D1, source="postgres", rows=3, files=FILES, keep=False):
    """A date of a table in two chunks with rejected rows, one of each compression, and an empty one; its run id."""
    run_id, day, column = new_run_id(), date.fromisoformat(day), Column("id", "integer")
    tables, staged = [], {}
    for stream, names in files.items():
        made = [landed_file(zone.staging(run_id) / name, 0 if stream == "e é%" else rows) for name in names]
        staged[stream] = [one for one, _ in made]
        listed = [file for _, file in made]
        quarantine = listed.pop() if names[-1].endswith(".jsonl") else None
        tables.append(Table(stream=stream, name=stream, columns=[column], primary_key=[], files=listed,
                            quarantine=quarantine))
    commit(zone, Manifest(source=source, extracted_at=day, run_id=run_id, taken_at=now(), seconds=1, snapshot={},
                          software={}, tables=tables), staged, keep=keep)
    zone.discard(run_id)
    return run_id


def landed_file(place, rows):
    with hashing.create(place) as file:
        file.write(b"id\n" + b"".join(b"%d\n" % number for number in range(rows)))
    return place, File.at(place, rows, file.size, file.sha256)


class Killed(BaseException):
    pass


def killed(patch, at, storage=LocalStorage):
    """Have every step from the so-manieth on fail, as for a process that is gone; the steps that were begun."""
    begun = []

    def step(function):
        def call(*arguments, **named):
            begun.append(function.__name__)
            if len(begun) >= at:
                raise Killed
            return function(*arguments, **named)
        return call

    for name in STEPS:
        patch.setattr(storage, name, step(getattr(storage, name)))
    return begun
