"""The packages depend on each other one way, as plugins/pyproject.toml says."""

import subprocess

from conftest import BIN, ROOT


def test_packages_depend_one_way():
    done = subprocess.run([BIN / "lint-imports", "--no-cache"], cwd=ROOT / "plugins", capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
