"""What the README tells a newcomer to type works, in the order in which it stands there."""

import re
import shutil
import subprocess

import pytest
from conftest import ROOT, Project

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.S | re.M)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of what git knows, with the environments of this one: to install them anew is what `make demo` is for."""
    folder = tmp_path_factory.mktemp("clone") / "project"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)  # with its time: make compares them
    for environment in (".venv", "plugins/.venv", "notebook/.venv"):
        (folder / environment).symlink_to(ROOT / environment)
    yield folder
    subprocess.run(["make", "stop"], cwd=folder, check=False, capture_output=True)


def run(folder, commands):
    environment = Project.environment(None)
    script = ["bash", "-c", "set -e\n" + commands]
    return subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_every_command_of_the_readme_runs(clone):
    said = []
    commands, ending = BLOCKS[:-1], BLOCKS[-1]
    path = 'export PATH="$PWD/.venv/bin:$PATH"\n'
    for block in commands:
        result = run(clone, path + block)
        assert result.returncode == 0, f"{block}\n{result.stdout[-3000:]}{result.stderr[-3000:]}"
        said.append(result.stdout)
    everything = "".join(said)
    assert everything.count("14 of 14 tables equal, 3,362 rows.") == 2  # by the demo, and by the command
    assert "2,155 rows of 18 columns" in everything
    for shown in ("committed", "identical", "updated", "Would remove"):
        assert shown in everything
    assert list((clone / "output/notebook").glob("query_data@2024-01-20.*"))
    assert (clone / ".dbeaver/data-sources.json").exists()
    listed = run(clone, path + "meltano invoke landing list --json").stdout
    assert listed.count('"loaded": "yes"') == 6, listed
    # The environments are this one's, and `make clean` would empty them: away with the links first.
    (clone / ".venv").unlink()
    assert run(clone, ending.replace("make clean", "")).returncode == 0
    left = subprocess.run([ROOT / "plugins/.venv/bin/python", clone / "demo/servers.py", "clean"], check=False)
    assert left.returncode == 0
    assert not (clone / ".env").exists()
    assert not (clone / ".demo").exists()


def test_the_demo_again_changes_no_row_and_needs_no_new_server(clone):
    (clone / ".venv").exists() or (clone / ".venv").symlink_to(ROOT / ".venv")
    first = run(clone, "make demo")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    again = run(clone, "make demo")
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    proofs = [re.findall(r"^(?:postgres|csv) .*yes$", result.stdout, re.M) for result in (first, again)]
    assert len(proofs[0]) == 14
    assert proofs[0] == proofs[1]
    assert "starting PostgreSQL" not in again.stdout


def test_the_readme_names_every_error_that_it_explains_as_the_code_says_it():
    code = "".join(path.read_text() for path in (ROOT / "plugins/landing").rglob("*.py"))
    joined = re.sub(r'"\s*f?"', "", code)
    for phrase in ("is not a date", "The input ended without the tap's closing message", "could not be read completely",
                   "is not landed for", "neither holds the other without loss",
                   "waiting for other sessions to release locks", "is not proved", "of what the tap sends is refused"):
        assert phrase in README
        assert phrase in joined
