"""`landing rename` gives a source another name: nothing is lost, doubled or loaded again, wherever it is killed."""

import contextlib
import hashlib
import json
import os

import pytest
import yaml
from landing.load.rename import WarehouseRename
from landing.storage.local import LocalStorage

D1, D2, D3 = "2024-01-20", "2024-01-21", "2024-01-22"


def call_it(project, source, name):
    """Rename the job of a source in meltano.yml, as the command says."""
    path = project.folder / "meltano.yml"
    content = yaml.safe_load(path.read_text())
    for job in content["jobs"]:
        job["name"] = f"extract_{name}" if job["name"] == f"extract_{source}" else job["name"]
    path.write_text(yaml.safe_dump(content))


def hashes(project):
    """SHA-256 of every landed file but manifests, by its path below the source."""
    return {path.split("/", 1)[1]: hashlib.sha256(content).hexdigest() for path, content in project.landed().items()
            if not path.endswith("_manifest.json")}


def ledger(project):
    return project.warehouse.run("SELECT source, extracted_at::text, table_name, run_id, loaded_at "
                                 "FROM public_history._loads ORDER BY 2, 3")


@pytest.fixture
def loaded(inside):
    """Two loaded dates, and one that is only landed."""
    for day in (D1, D2, D3):
        inside.extract(day)
        inside.extract(day, "csv")
    inside.load(D1)
    inside.load(D2)
    return inside


def test_a_renamed_source_is_verified_on_every_date_and_nothing_is_loaded_again(loaded):
    project = loaded.project
    project.warehouse.run("CREATE VIEW mine AS SELECT count(*) FROM public.orders")
    fields = project.manifest("csv", D1)
    project.write_manifest("csv", D1, fields | {"of_a_later_version": [1]})
    loaded.load(D2, check=False, reload=True, checks={"postgres": {"orders": {"min_rows": 1000}}})
    before, files, rows = ledger(project), hashes(project), project.rows("orders")
    said = loaded.landing("rename", "postgres", "shop").stdout
    assert "with --yes to make them, then rename the job extract_postgres to extract_shop in meltano.yml" in said
    assert (ledger(project), hashes(project)) == (before, files)
    assert project.manifest_path("postgres", D1).exists()
    assert "Renamed: " in loaded.landing("rename", "postgres", "shop", "--yes").stdout
    call_it(project, "postgres", "shop")
    assert hashes(project) == files
    assert [(("shop" if source == "postgres" else source), *more) for source, *more in before] == [
        tuple(row) for row in ledger(project)]
    assert project.warehouse.run("SELECT source FROM public_history._refused") == [("shop",)]
    assert not (project.output / "source=postgres").exists()
    assert not list((project.output / "_attempts").glob("postgres@*"))
    assert {*loaded.landing("show", D1, "--json").stdout.split('"')} >= {"shop", "csv"}
    assert project.manifest("csv", D1) == fields | {"declared": ["shop", "csv"], "of_a_later_version": [1],
                                                    "sha256": project.manifest("csv", D1)["sha256"]}
    assert project.manifest("shop", D1)["declared"] == ["shop", "csv"]
    for day in (D1, D2):
        assert loaded.proved(day)
        loaded.load(day)
    assert [tuple(row[1:]) for row in ledger(project)] == [tuple(row[1:]) for row in before]
    loaded.load(D3)
    assert loaded.proved(D3)
    assert project.rows("orders") == rows
    assert project.warehouse.one("SELECT * FROM mine") == 100
    assert loaded.landing("gc", "--older-than", "0").stdout == "Nothing to remove.\n"
    assert loaded.landing("rename", "postgres", "shop", "--yes").stdout == "Nothing to rename.\n"
    assert len(json.loads(loaded.landing("show", D1, "--json").stdout)["sources"][0]["attempts"]) == 1


class Killed(BaseException):
    pass


STEPS = [(LocalStorage, name) for name in ("copy", "put", "delete", "delete_all", "move", "append", "flush")]


def killed(patch, at):
    """Have the process killed at the so-manieth step that changes anything; the steps that were begun."""
    begun = []

    def step(function):
        def call(*arguments, **named):
            begun.append(function.__name__)
            if len(begun) == at:
                raise Killed
            return function(*arguments, **named)
        return call

    for where, name in [*STEPS, (WarehouseRename, "_rename")]:
        patch.setattr(where, name, step(getattr(where, name)))
    return begun


def whole(project):
    """Dates and their tables, each with all the files that a manifest lists."""
    found = set()
    for path in project.output.glob("source=*/*/_manifest.json"):
        for table in json.loads(path.read_text())["tables"]:
            found.add((path.parent.name, table["stream"]))
            assert all((path.parent / file["path"]).is_file() for file in table["files"])
    return found


def test_a_rename_that_is_killed_at_any_step_leaves_whole_dates_and_a_second_one_completes_it(inside):
    """Back and forth between two names, one step further each time."""
    project, names, done, steps = inside.project, ("postgres", "shop"), False, 0
    inside.extract(D1)
    inside.extract(D1, "csv")
    inside.load(D1)
    files, tables, rows = hashes(project), whole(project), len(ledger(project))
    while not done:
        steps += 1
        project.output.joinpath(f"_attempts/{names[1]}@{D1}.jsonl").write_text("")  # an attempt under the new name
        with inside.monkeypatch.context() as patch:
            begun = killed(patch, steps)
            with contextlib.suppress(Killed):
                inside.landing("rename", *names, "--yes")
        done = len(begun) < steps
        assert whole(project) == tables
        inside.landing("rename", *names, "--yes")
        call_it(project, *names)
        assert not list(project.output.glob(f"source={names[0]}/*"))
        assert not list(project.output.glob(f"_attempts/{names[0]}@*"))
        assert {source for source, *_ in ledger(project)} == {names[1], "csv"}
        assert project.manifest("csv", D1)["declared"] == [names[1], "csv"]
        names = names[::-1]
    assert steps > 15
    assert hashes(project) == files
    assert len(ledger(project)) == rows
    assert inside.proved(D1)


def test_a_name_that_another_source_has_on_the_same_date_is_refused_before_anything_changes(loaded):
    before = loaded.project.landed(), ledger(loaded.project)
    refused = loaded.landing("rename", "postgres", "csv", "--yes", check=False)
    assert refused.returncode == 1
    assert f"csv is landed for {D1}, too, from another run. Nothing was changed." in refused.stderr
    assert (loaded.project.landed(), ledger(loaded.project)) == before
    loaded.landing("drop", D1, "--source", "csv", "--yes")
    for day in (D2, D3):
        loaded.landing("drop", day, "--source", "csv", "--yes")
    loaded.project.warehouse.run("INSERT INTO public_history._loads SELECT 'csv', extracted_at, 'other', 0, '', now(), "
                                 "now(), run_id FROM public_history._loads WHERE extracted_at = %s LIMIT 1", D2)
    refused = loaded.landing("rename", "postgres", "csv", "--yes", check=False)
    assert f"public has {D2} loaded from postgres and from csv. Nothing was changed." in refused.stderr
    assert loaded.project.manifest_path("postgres", D1).exists()


@pytest.mark.parametrize("linked", ["source=postgres", f"source=postgres/extracted_at={D1}"])
@pytest.mark.parametrize("command", ["rename postgres shop", f"drop {D1}", f"drop {D1} --source postgres"])
def test_a_source_behind_a_link_is_refused_before_anything_changes(loaded, linked, command):
    project, path = loaded.project, loaded.project.output / linked
    path.rename(project.folder / "disk")
    path.symlink_to(project.folder / "disk")
    before = project.landed(), ledger(project)
    refused = loaded.landing(*command.split(), "--yes", check=False)
    assert refused.returncode == 1
    assert (f"source=postgres/extracted_at={D1} is behind a link, and nothing there is moved or removed. Nothing was "
            "changed.") in refused.stderr
    assert (project.landed(), ledger(project)) == before
    loaded.landing("drop", D1, "--source", "csv", "--yes")


@pytest.mark.parametrize(("names", "reason"), [
    (("postgers", "shop"), "Source postgers is unknown. Known sources: csv, postgres."),
    (("postgres", "a/b"), "'a/b' is not a valid source name"),
    (("postgres", "postgres"), "postgres has that name already"),
])
def test_names_that_cannot_be_are_refused(loaded, names, reason):
    refused = loaded.landing("rename", *names, "--yes", check=False)
    assert refused.returncode == 1
    assert reason in refused.stderr


def test_a_load_at_work_makes_a_rename_wait_and_give_up(loaded):
    loaded.monkeypatch.setattr("landing.cli.rename.LOAD_WAIT", 0.1)
    with contextlib.closing(loaded.project.warehouse.connect()) as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('landing'), hashtext('public'))")
        refused = loaded.landing("rename", "postgres", "shop", "--yes", check=False)
    assert "waiting for a load of schema public" in refused.stderr
    assert loaded.project.manifest_path("postgres", D1).exists()


def test_other_schemas_and_a_damaged_date_and_a_file_system_without_hard_links(loaded):
    project = loaded.project
    loaded.load(D1, default_target_schema="second")
    loaded.monkeypatch.setattr(os, "link", refusing)
    content = project.manifest_path("postgres", D2).read_text()
    project.manifest_path("postgres", D2).write_text("{")
    refused = loaded.landing("rename", "postgres", "shop", "--yes", check=False)
    assert "is not a manifest that can be used" in refused.stderr
    assert project.manifest_path("postgres", D1).exists()
    project.manifest_path("postgres", D2).write_text(content)
    loaded.landing("rename", "postgres", "shop", "--yes")
    call_it(project, "postgres", "shop")
    assert "3 of 3 tables equal" in loaded.landing("verify", D1, "--schema", "second").stdout
    assert "3 of 3 tables equal" in loaded.landing("verify", D2).stdout


def refusing(*_, **__):
    raise PermissionError("no hard links here")
