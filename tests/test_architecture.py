"""The packages depend on each other one way, as plugins/pyproject.toml says; programs around them use landing.api."""

import ast
import subprocess

from conftest import BIN, ROOT


def test_packages_depend_one_way():
    done = subprocess.run([BIN / "lint-imports", "--no-cache"], cwd=ROOT / "plugins", capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_programs_around_the_packages_import_only_the_api():
    paths = [path for folder in ("orchestrate/airflow/dags", "orchestrate/airflow", "notebook", "demo", "inspection",
                                 "docker", "dashboard", "examples", "examples/*")
             for path in ROOT.glob(f"{folder}/*.py")]
    found = {(path.name, module) for path in paths for node in ast.walk(ast.parse(path.read_text()))
             for module in imported(node) if module.split(".")[0] == "landing"}
    assert {name for name, _ in found} >= {"ELT_with_meltano.py", "warehouse.py", "run.py", "connections.py"}
    assert {module for _, module in found} == {"landing.api"}


def imported(node):
    """Modules that an import statement names; `from landing import api` is landing.api."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module == "landing":
        return [f"landing.{alias.name}" for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def test_the_api_needs_no_library_that_airflow_and_the_notebook_lack():
    lacking = {"singer_sdk", "tap_postgres", "target_postgres", "sqlalchemy", "duckdb", "fsspec", "cryptography"}
    script = "import sys, landing.api; print(*{name.partition('.')[0] for name in sys.modules})"
    found = subprocess.run([BIN / "python", "-c", script], capture_output=True, text=True, check=True)
    assert not {*found.stdout.split()} & lacking
