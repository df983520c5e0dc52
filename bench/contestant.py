"""What every contestant has in common.

A contestant extracts a data set's source to files in its own folder, loads those files into the target, and, where it
can, verifies that the target has what the files have. What is timed is `extract`, `load` and `verify`; what has to be
there beforehand is made by `before_extract` and `before_load`.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import ClassVar

from data import LARGE, LINEITEM, SAMPLE, Data
from databases import TARGET, Databases
from measure import Cost, FailedError, measure, size_of

HERE = Path(__file__).resolve().parent
EXTRACT, LOAD, LOAD_KEY, VERIFY = PHASES = ("extract", "load", "load_key", "verify")  # load: without a primary key


class Contestant:
    """One tool with one choice of settings."""

    name: str
    settings: str  # in words, for the report
    phases: tuple[str, ...] = (EXTRACT, LOAD, LOAD_KEY)
    peer: ClassVar[str | None] = None  # its folder below peers/, where it needs an environment
    slow: ClassVar[bool] = False  # only with --all or by --only; one round is enough
    once: ClassVar[tuple[str, ...]] = ()  # phases of which one round is enough
    once_from: ClassVar[int] = LARGE  # rows from which on one round is enough
    twice: ClassVar[bool] = False  # in each round it starts up twice: what that costs is a goal
    only: ClassVar[str] = ""  # "smallest" or "largest": unless named by --only, it runs at one size
    start: ClassVar[float] = 0.2  # s, and rows a second: guesses, by which the end of a run is foretold
    rate: ClassVar[int] = 400_000
    files: ClassVar[float] = 1  # bytes of its files on disk, to those of plain CSV
    from_keyless = False  # whether it extracts the source without a key for the load without a key
    loaded = ""  # the table in the target; unset: as it is called in the source
    prepared = True  # whether it wants the table to be in the target beforehand
    limit = 900.0  # s; after that a command is ended

    def __init__(self, databases: Databases, folder: Path) -> None:
        self.databases, self.folder = databases, folder / re.sub("[^a-z0-9]+", "-", self.name.lower())
        self.folder.mkdir()
        self.extracted: set[str] = set()  # names of data sets

    @classmethod
    def takes(cls, data: Data, phase: str) -> bool:
        """Whether it takes part. Most copy lineitem, with rows and, for the cost of starting up, without."""
        return phase in cls.phases and data.shape is LINEITEM and data is not SAMPLE

    def out(self, data: Data, key: bool) -> Path:
        """Its file or folder with what it extracted."""
        return self.folder / data.database(key)

    def before_extract(self, data: Data) -> None:
        """Nothing is left of the time before."""
        self._remove(self.out(data, key=True))

    def before_load(self, data: Data, key: bool) -> None:
        if data.name not in self.extracted:  # extracts were not asked for
            self.before_extract(data)
            self.extract(data)
            self.extracted.add(data.name)
        self.databases.fresh_target(data if self.prepared else None)

    def extract(self, data: Data) -> Cost:
        raise NotImplementedError

    def load(self, data: Data, key: bool) -> Cost:
        raise NotImplementedError

    def verify(self, data: Data) -> Cost:
        """After a load with its key."""
        raise NotImplementedError

    def check(self, data: Data) -> None:
        """After a load: are the rows there? Raises FailedError."""
        if data.rows and data.shape.table:
            rows = self.databases.count(TARGET, self.loaded or data.shape.table)
            if rows != data.rows:
                raise FailedError(f"{rows:,} rows arrived, of {data.rows:,}")

    def size(self, data: Data, phase: str) -> int:
        """Bytes on disk: of the files, or in the target."""
        return size_of(self.out(data, key=True)) if phase == EXTRACT else self.databases.target_size()

    def run(self, *commands: list, database: str, folder: Path | None = None, **variables: str) -> Cost:
        """Measure commands that run side by side; libpq's variables lead to `database`."""
        variables = self.databases.variables(database) | variables
        return measure(*commands, folder=folder or self.folder, variables=variables, server=self.databases.pid,
                       limit=self.limit)

    def python(self, *arguments: object) -> list:
        """A command: the peer's own script in the peer's own environment."""
        return [self.bin / "python", HERE / "peers" / self.peer / "job.py", *arguments]

    @property
    def bin(self) -> Path:
        return HERE / ".venvs" / self.peer / "bin"

    @staticmethod
    def _remove(path: Path) -> None:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
