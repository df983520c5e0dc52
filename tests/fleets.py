"""Projects with Airflow and its Celery workers, as `make workers` starts them: the landing zone is on a store."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from airflows import DAG, Airflow
from conftest import ROOT, Database, databases
from servers import Server
from stores import Store

READY = ROOT / "orchestrate/airflow/.venv/workers-ready"


class Fleet(Airflow):
    """A project whose tasks run on workers."""

    def __init__(self, folder: Path, source: Database, warehouse: Database, metadata: Database, store: Store,
                 **variables: object) -> None:
        super().__init__(folder, source, warehouse, metadata)
        self.store, self.root = store, store.url()
        self.set(LANDING_ROOT=self.root, **store.environment(), **variables)

    def log(self, run: dict, task: str) -> str:
        """Of the last attempt, as the web UI shows it."""
        one = next(one for one in self.instances(run) if one["task_id"] == task)
        path = f"{DAG}/dagRuns/{quote(run['dag_run_id'])}/taskInstances/{task}/logs/{one['try_number']}"
        return "\n".join(str(line["event"]) for line in self.ask("GET", path)[1]["content"])

    def said(self, folder: str = "") -> str:
        return (self.project.folder / ".airflow/airflow.log").read_text()[-5000:]

    def instances(self, run: dict) -> list[dict]:
        """Task instances of a run: host, queue, attempt, times."""
        return self.ask("GET", f"{DAG}/dagRuns/{quote(run['dag_run_id'])}/taskInstances")[1]["task_instances"]

    @property
    def copies(self) -> list[Path]:
        """The workers' working copies."""
        return sorted((self.project.folder / ".airflow/workers").glob("w[0-9]*"))

    def worker(self, name: str) -> psutil.Process:
        """A worker's main process, once it has begun. By its title, which overwrites its environment."""
        found: list[psutil.Process] = []

        def begun() -> bool:
            for process in self.processes()[0].children():
                with contextlib.suppress(psutil.Error):
                    if f"{name}@" in " ".join(process.cmdline()):
                        found.append(process)
            return bool(found)

        self.until(begun, f"{name} did not begin")
        return found[0]

    def kill(self, name: str) -> list[psutil.Process]:
        """End a worker and all of its processes at once, as if its machine had lost power; returns them."""
        main = self.worker(name)
        ended = [main, *main.children(recursive=True)]
        for process in ended:  # first the main process: it would start others in the place of its children
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        return ended

    def landed_files(self) -> list[Path]:
        """Landed files on this machine, in the project and in each working copy."""
        return [path for folder in (self.project.folder, *self.copies) for path in (folder / "output").rglob("*")
                if path.is_file()]


@contextlib.contextmanager
def fleet(server: Server, folder: Path, store: Store, prepare=lambda one: None, **variables: object) -> Iterator[Fleet]:
    """A running fleet on databases of its own; at the end none of its processes may be left."""
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not on PATH: apt-get install redis-server")
    if not READY.exists():
        pytest.skip("the Celery executor is not installed: make orchestrate/airflow/.venv/workers-ready")
    with databases(server) as make:
        one = Fleet(folder, make("source"), make("warehouse"), make("metadata"), store, **variables)
        prepare(one)
        started = one.make("workers")
        try:
            assert started.returncode == 0, started.stdout + started.stderr + one.said()
            one.started = started.stdout
            yield one
        finally:
            processes = one.processes() if started.returncode == 0 else []
            one.make("airflow-stop")
            _, left = psutil.wait_procs(processes, timeout=10)
        assert not left, [process.cmdline() for process in left]
