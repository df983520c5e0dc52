"""Projects with a transform: the shop's own, or one of a test."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import warm
from conftest import BIN, ROOT, Project, Result

TRANSFORM = ROOT / "transform"


def with_transform(project: Project) -> None:
    """The project's own models, without dbt's environment."""
    shutil.copytree(TRANSFORM, project.folder / "transform", ignore=shutil.ignore_patterns(".venv"))


def with_models(project: Project, sources: str, models: Mapping[str, str]) -> None:
    """Models of a test, on the macros of the project's own; `sources` is the text of sources.yml."""
    folder = project.folder / "transform"
    (folder / "models").mkdir(parents=True)
    shutil.copytree(TRANSFORM / "macros", folder / "macros")
    (folder / "dbt_project.yml").write_text("name: test\nversion: 1.0.0\nprofile: warehouse\n")
    (folder / "models/sources.yml").write_text(sources)
    for name, text in models.items():
        (folder / f"models/{name}.sql").write_text(text)


def dbt(project: Project, *arguments: str, check: bool = True, **variables: str) -> Result:
    """The utility `dbt`, without Meltano around it."""
    return project._run([str(BIN / "landing-dbt"), *arguments], check,
                        {"MELTANO_PROJECT_ROOT": str(project.folder), **variables}, warm.Plugin)


def made(project: Project) -> Path:
    """Where dbt puts what it makes."""
    return project.folder / ".meltano/transform"


def manifest(project: Project) -> dict:
    return json.loads((made(project) / "target/manifest.json").read_text())


def stub(project: Project, script: str) -> None:
    """Have a shell script for dbt."""
    path = project.folder / "transform/.venv/bin/dbt"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
