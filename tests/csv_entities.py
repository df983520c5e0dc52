"""Lands an entity of CSV files without a process: what tests of tap-csv's conversion need."""

import json
import logging
from dataclasses import dataclass
from datetime import date

import pytest
from landing.core.progress import Progress
from landing.extract.csv.declaration import declarations
from landing.extract.csv.entity import CsvEntity
from landing.extract.csv.quarantine import Quarantine
from landing.model.schema import Column
from landing.storage.local import at


@dataclass
class LandedEntity:
    """`text`: the landed file. `rejected`: the quarantined rows. `entity`: with its names and keys."""

    text: str
    columns: list[Column]
    rejected: list[dict]
    entity: CsvEntity

    @property
    def types(self) -> dict[str, str]:
        return {column.name: column.type for column in self.columns}


@pytest.fixture
def convert(tmp_path, monkeypatch):
    """convert(content, …, quarantine=False, day=…, **options of an entry of `files`) lands the files 0.csv, 1.csv, …"""
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))
    runs = iter(range(1000))

    def run(*contents, path="[0-9].csv", quarantine=False, day=date(2024, 1, 20), wanted=None, **options):
        for number, content in enumerate(contents):
            (tmp_path / f"{number}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        declaration, = declarations([{"entity": "e", "path": path, **options}], day)
        entity, folder = CsvEntity(declaration), tmp_path / f"run-{next(runs)}"
        folder.mkdir()
        rejected = Quarantine(at(folder / "rejected.jsonl"), 1000) if quarantine else None
        progress = Progress(logging.getLogger("test"), "e")
        columns, _ = entity.convert(wanted or entity.names, folder, at(folder / "e.csv"), progress, rejected)
        rows = (folder / "rejected.jsonl").read_text().splitlines() if rejected and rejected.close() else []
        return LandedEntity((folder / "e.csv").read_text(), columns, [json.loads(row) for row in rows], entity)

    return run
