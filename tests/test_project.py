"""The project as such: no secret is written down, no registry is named, what is declared is what is there."""

import contextlib
import json
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import servers
from conftest import BIN, CANARY, ROOT
from landing.core.settings import landing_root

DAY = "2024-01-20"


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def command_lines():
    """Of all processes; `ps` is not on every machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(found)


def test_the_password_is_in_no_log_no_manifest_no_process_list_and_no_table(shop):
    seen = []
    for job, environment, variable in (("extract_postgres", "extract", "DATESTAMP"),
                                       ("extract_csv", "extract", "DATESTAMP"),
                                       ("load_to_postgres", "load", "EXTRACTED_AT")):
        command = [str(shop.folder / ".venv/bin/meltano"), "--log-level", "debug", "run", job]
        variables = shop.environment(MELTANO_ENVIRONMENT=environment, **{variable: DAY})
        process = subprocess.Popen(command, cwd=shop.folder, env=variables, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while process.poll() is None:
            seen.append(command_lines())
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        said = process.stdout.read()
        assert process.returncode == 0, said[-3000:]
        assert CANARY not in said
    assert any("landing-t" in listing for listing in seen), "the plugins were seen at work"
    assert not [listing for listing in seen if CANARY in listing]
    for path in [*shop.output.rglob("*"), *(shop.folder / ".meltano").rglob("*")]:
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
    relations = shop.warehouse.run(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'v', 'p') AND (nspname ~ '^public' OR relname = 'pg_description')")
    assert len(relations) > 9
    for relation, in relations:
        assert shop.warehouse.one(f"SELECT count(*) FROM {relation} t WHERE strpos(t::text, %s) > 0", CANARY) == 0


def test_no_tracked_file_names_a_registry_or_this_machine():
    for path in set(tracked()) - {ROOT / "tests/test_project.py"}:
        text = path.read_bytes().decode("utf-8", "replace")
        assert not re.search(r"--(extra-)?index-url|--find-links|files\.pythonhosted", text), path
        assert "/work/" not in text, path


def test_every_requirement_is_pinned_with_hashes():
    compiled = [path for path in tracked() if path.name == "requirements.txt"]
    assert len(compiled) == 17
    for path in compiled:
        lines = path.read_text().splitlines()
        packages = [number for number, line in enumerate(lines) if re.match(r"[a-z0-9]", line)]
        assert packages
        for number in packages:
            assert "==" in lines[number]
            assert "--hash=sha256:" in lines[number + 1]


def test_lock_files_are_what_the_plugins_say_of_themselves():
    expected = runpy.run_path(str(ROOT / "plugins/locks.py"))["lock_files"]()
    found = {path: path.read_text() for pattern in ("*/*--landing.lock", "landing/**/stock_settings.json")
             for path in (ROOT / "plugins").glob(pattern)}
    assert found == expected, "run `make locks`"


def test_settings_keep_the_names_of_their_meltanolabs_variants():
    for stock in ("tap-postgres", "target-postgres"):
        theirs, ours = (json.loads(subprocess.run([BIN / command, "--about", "--format", "json"], capture_output=True,
                                                  text=True, check=True).stdout)["settings"]["properties"]
                        for command in (stock, f"landing-{stock}"))
        assert theirs.keys() <= ours.keys()


def test_the_landing_root_is_a_folder_of_the_project_and_can_be_another(shop, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shop.land(DAY, LANDING_ROOT=str(elsewhere))
    shop.load(DAY, LANDING_ROOT=str(elsewhere))
    assert not (shop.output / "source=csv").exists()
    assert (elsewhere / "source=csv" / f"extracted_at={DAY}" / "_manifest.json").exists()
    assert "3 of 3 tables equal" in shop.landing("verify", DAY, LANDING_ROOT=str(elsewhere)).stdout


def test_a_landing_root_is_expanded_and_a_url_is_refused(shop, monkeypatch):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(shop.folder))
    monkeypatch.setenv("HOME", str(shop.folder / "home"))
    assert landing_root("~/zone") == shop.folder / "home" / "zone"
    assert landing_root("a:b") == shop.folder / "a:b"
    before = sorted(shop.folder.iterdir())
    for wrong in ("s3://", "s3:/bucket", "https://bucket/zone", "file:///tmp/zone", "~nobody-of-that-name/zone"):
        for result in (shop.land(DAY, "csv", check=False, LANDING_ROOT=wrong),
                       shop.landing("list", check=False, LANDING_ROOT=wrong)):
            assert result.returncode != 0
            assert f"LANDING_ROOT='{wrong}'" in result.text
            assert "Traceback" not in result.text
    made = {path.name for path in shop.folder.iterdir()} - {path.name for path in before}
    assert not {name for name in made if name.startswith(("s3", "https", "file", "~"))}


@pytest.mark.parametrize("awk", ["mawk", "gawk", "original-awk"])  # the last one is BSD's and macOS's
def test_make_without_a_target_lists_the_commands_and_makes_nothing(tmp_path, awk):
    shutil.copy(ROOT / "Makefile", tmp_path)
    if found := shutil.which(awk):
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/awk").symlink_to(found)
    before = [*tmp_path.rglob("*")]
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of `make test`
    bare, asked = (subprocess.run(["make", *target], cwd=tmp_path, capture_output=True, text=True, check=True, env={
        **outer, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}) for target in ([], ["help"]))
    assert bare.stdout == asked.stdout
    assert bare.stderr == ""
    assert [*tmp_path.rglob("*")] == before
    lines = bare.stdout.splitlines()
    listed = [line.split()[1] for line in lines if line.startswith("  make ")]
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert sorted(listed) == sorted(phony)
    assert len({re.match(r"  make \S+ +", line).end() for line in lines if line.startswith("  ")}) == 1, "aligned"
    assert lines[0] == "Start"


@pytest.mark.parametrize(("env", "arguments", "removed"), [
    ("TARGET_POSTGRES_HOST=mine\n", [], False), (None, [], False), (f"{servers.MARKER}\nA=b\n", [], True),
    ("TARGET_POSTGRES_HOST=mine\n", ["CLEAN_LANDED=yes"], True)])
def test_make_clean_keeps_dates_that_the_demo_did_not_land(tmp_path, env, arguments, removed):
    shutil.copy(ROOT / "Makefile", tmp_path)
    if env:
        (tmp_path / ".env").write_text(env)
    landed, made = tmp_path / "output/source=x/extracted_at=2024-01-20/_manifest.json", tmp_path / ".meltano/run"
    for path in (landed, made):
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    done = subprocess.run(["make", "clean", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not made.exists()
    assert landed.exists() != removed
    assert (done.returncode == 0) == removed, done.stderr
    assert removed or "make clean CLEAN_LANDED=yes" in done.stderr


@pytest.mark.parametrize(("env", "arguments", "status"), [
    (f"{servers.MARKER}\nLANDING_ROOT=s3://bucket/zone\n", [], 0),
    ("LANDING_ROOT='az://c/z'\n", ["CLEAN_LANDED=yes"], 2)])
def test_make_clean_names_the_store_that_it_leaves_as_it_is(tmp_path, env, arguments, status):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".env").write_text(env)
    done = subprocess.run(["make", "clean", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert re.search(r"Kept: (s3://bucket/zone|az://c/z)\. ", done.stderr)


def test_the_sample_shop_is_the_same_everywhere_and_each_day_differs():
    import shop as sample

    assert sample.build() == sample.build()
    first, second = sample.build(), sample.build(day=1)
    sizes = {table: len(rows) for table, rows in first.tables.items()}
    assert sum(sizes.values()) == 1207
    assert sizes["orders"] == 830
    assert len(first.order_details) == 2155
    assert sizes["customer_demographics"] == sizes["customer_customer_demo"] == 0
    orders = [{row[0]: row for row in one.tables["orders"]} for one in (first, second)]
    assert set(orders[1]) - set(orders[0]), "orders came"
    assert set(orders[0]) - set(orders[1]), "orders went"
    assert [key for key in set(orders[0]) & set(orders[1]) if orders[0][key] != orders[1][key]], "orders changed"
    assert {line[0] for line in second.order_details} <= set(orders[1]), "the join stays whole"
    assert os.path.exists(ROOT / "demo" / "words.json")


def test_what_a_person_adds_to_the_demos_env_stays(tmp_path, monkeypatch):
    server = SimpleNamespace(port=1, user="u", password=CANARY)
    monkeypatch.setattr(servers, "ENV", tmp_path / ".env")
    servers.ENV.write_text(first := servers.env_text(server))
    mine = "# mine\nAIRFLOW__CORE__PARALLELISM=4\nLANDING_ROOT=s3://bucket/zone\n"
    servers.ENV.write_text((first := first.replace("LANDING_ROOT=output\n", "")) + mine)
    server.port = 2
    assert servers.env_text(server) == first.replace("PORT=1", "PORT=2").replace(":1/", ":2/") + mine
