"""Working copies: each worker runs its tasks in a copy of the project, as it would on a machine of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

COPIED = (".env", "meltano.yml", "orchestrate", "load", "transform")
# Not links: what a run leaves behind. The rest is software, or files of sources, which runs only read.
OWN = ("output",)


def make(project: Path, folder: Path) -> Path:
    """Make or renew the working copy of a project in a folder, private since `.env` has passwords; returns the folder.

    Settings are copied. Software and the files of sources are links: on one machine they are installed once. Landing
    zone, Meltano's folder and Airflow's home are the copy's own.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_symlink() or path.name in COPIED:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in sorted(project.iterdir()):
        if path.name in COPIED:
            copy(path, folder / path.name)
        elif path.name == ".venv" or not (path.name.startswith(".") or path.name in OWN):
            (folder / path.name).symlink_to(path.resolve())
    return folder


def copy(path: Path, to: Path) -> None:
    """Copy a file with its mode, or a folder without environments and byte-code."""
    if path.is_dir():
        shutil.copytree(path, to, ignore=shutil.ignore_patterns(".venv", "__pycache__"))
    else:
        shutil.copy2(path, to)
