"""What the README and the documentation tell people to type works, in the order in which it is read."""

import re
import shutil
import subprocess

import pytest
from conftest import ROOT, Project

# Their blocks of `sh` are run. Blocks of `bash` are run by test_airflow.py; those of `console` need another server.
PAGES = ("README.md", "docs/tutorial.md", "docs/how-to/reprocess.md", "docs/how-to/retention.md",
         "docs/how-to/own-database.md", "docs/how-to/airflow.md", "docs/how-to/monitoring.md",
         "docs/how-to/notebook.md", "docs/how-to/transform.md", "docs/how-to/inspect.md", "docs/how-to/csv.md",
         "docs/how-to/copy.md", "docs/how-to/export.md", "docs/how-to/protection.md", "docs/how-to/incremental.md")
PATH = 'export PATH="$PWD/.venv/bin:$PATH"\n'


def blocks(page):
    found = re.findall(r"^( *)```sh\n(.*?)^ *```", (ROOT / page).read_text(), re.S | re.M)
    return [re.sub(f"^{indent}", "", block, flags=re.M) for indent, block in found]


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
    for environment in (".venv", "plugins/.venv", "notebook/.venv", "transform/.venv"):
        (folder / environment).symlink_to(ROOT / environment)
    yield folder
    subprocess.run(["make", "stop"], cwd=folder, check=False, capture_output=True)


def run(folder, commands):
    environment = Project.environment(None)
    script = ["bash", "-c", "set -e\n" + commands]
    return subprocess.run(script, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_every_page_with_commands_is_run():
    found = {str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
             if ".venv" not in path.parts and blocks(path.relative_to(ROOT))}
    assert found - {"CONTRIBUTING.md"} == set(PAGES)


@pytest.mark.timeout(1800)  # some hundred commands
def test_every_documented_command_runs(clone):
    ending = blocks("README.md")[-1]
    done = {ending: ""}
    for block in (block for page in PAGES for block in blocks(page)):
        if block not in done:
            result = run(clone, PATH + block)
            assert result.returncode == 0, f"{block}\n{result.stdout[-3000:]}{result.stderr[-3000:]}"
            done[block] = result.stdout
    everything = "".join(done.values())
    assert everything.count("14 of 14 tables equal, 3,362 rows.") == 3  # by the demo, the README, and after the repair
    assert "Protected, so compared as landed" in everything
    assert "customers.contact_name (encrypt), customers.phone (mask)" in everything
    for shown in ("2,155 rows of 18 columns", "exit status 1", "13 of 14 tables equal", "committed", "identical",
                  "updated", "Would remove"):
        assert shown in everything
    assert list((clone / "output/notebook").glob("query_data@2024-01-21.*"))
    assert (clone / ".dbeaver/data-sources.json").exists()
    listed = run(clone, PATH + "meltano invoke landing list --json").stdout
    assert listed.count('"loaded": "yes"') == 5, listed  # csv of today was landed again by the last page
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
