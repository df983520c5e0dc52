"""A run's source is decided once, by the job that runs its tap: tap and target never differ, and nothing is guessed."""

import re

import pytest
import yaml
from conftest import ROOT, _dotenv_quoted
from landing.core.errors import SettingError
from landing.core.sources import source_name, stock_source

DAY, NEXT = "2024-01-20", "2024-01-21"
STOCK = {"tap-postgres": "postgres", "tap-csv": "csv"}


@pytest.fixture
def declared(tmp_path, monkeypatch):
    """Declares jobs in a project of its own, and says which extractor Meltano started."""
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))

    def declare(jobs, extractor=None, **variables):
        for name in ("SOURCE", "MELTANO_EXTRACTOR_NAME"):
            monkeypatch.delenv(name, raising=False)
        if extractor:
            monkeypatch.setenv("MELTANO_EXTRACTOR_NAME", extractor)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        content = {"jobs": [{"name": name, "tasks": tasks} for name, tasks in jobs.items()],
                   "plugins": {"extractors": [{"name": "tap-erp"}, {"name": "shop"}]}}
        (tmp_path / "meltano.yml").write_text(yaml.safe_dump(content))
        return source_name(variables.get("configured"), stock_source("postgres"))

    return declare


@pytest.mark.parametrize(("jobs", "extractor", "variables", "source"), [
    ({"extract_erp": ["tap-erp target-csv"]}, "tap-erp", {}, "erp"),
    ({"extract_erp": [["tap-erp target-csv"]]}, "tap-erp", {}, "erp"),
    ({"extract_crm": ["shop target-csv"], "extract_erp": ["tap-erp target-csv"]}, "shop", {}, "crm"),
    ({"extract_crm": ["tap-postgres mapper target-csv"]}, "tap-postgres", {}, "crm"),
    ({"extract_erp": ["tap-erp target-csv"]}, "tap-postgres", {}, "postgres"),
    ({"extract_a": ["tap-erp target-csv"], "extract_b": ["tap-erp target-csv"]}, "tap-erp", {"SOURCE": "b"}, "b"),
    ({"extract_erp": ["tap-erp target-csv"]}, "tap-erp", {"SOURCE": "erp"}, "erp"),
    ({}, None, {}, "postgres"),
])
def test_the_job_of_the_tap_names_the_source(declared, jobs, extractor, variables, source):
    assert declared(jobs, extractor, **variables) == source


@pytest.mark.parametrize(("jobs", "extractor", "variables", "reason"), [
    ({"extract_crm": ["shop target-csv"]}, "tap-erp", {}, "no job extract_<source> in meltano.yml runs it"),
    ({"extract_a": ["tap-erp target-csv"], "extract_b": ["tap-erp target-csv"]}, "tap-erp", {},
     "extract_a and extract_b run tap-erp"),
    ({"extract_a": ["tap-erp target-csv", "shop target-csv"]}, "shop", {}, "each would replace"),
    ({"extract_erp": ["tap-erp target-csv"], "extract_crm": ["shop target-csv"]}, "tap-erp", {"SOURCE": "crm"},
     "this job lands source erp"),
])
def test_a_source_that_cannot_be_known_is_refused(declared, jobs, extractor, variables, reason):
    with pytest.raises(SettingError, match=reason):
        declared(jobs, extractor, **variables)


def test_a_setting_that_contradicts_the_job_is_refused(declared):
    declared({"extract_erp": ["tap-erp target-csv"]}, "tap-erp")
    with pytest.raises(SettingError, match="lands source erp, but its plugin has `source: crm`"):
        source_name("crm")


def inherit(project, *names):
    """Give the project two sources of one database each, by `inherit_from` alone."""
    path = project.folder / "meltano.yml"
    content = yaml.safe_load(path.read_text())
    content["jobs"] = [{"name": f"extract_{name}", "tasks": [f"tap-{name} target-csv"]} for name in names]
    content["plugins"]["extractors"] += [
        {"name": f"tap-{name}", "inherit_from": "tap-postgres", "config": {"filter_schemas": [name]}} for name in names]
    path.write_text(yaml.safe_dump(content))


def test_two_sources_by_inherit_from_land_side_by_side(project):
    for name in ("erp", "shop"):
        project.source.run(f"CREATE SCHEMA {name}; CREATE TABLE {name}.{name}_orders AS SELECT '{name}' AS whose")
    inherit(project, "erp", "shop")
    project.meltano("run", "extract_erp", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY)
    project.meltano("run", "tap-shop", "target-csv", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY)
    for name in ("erp", "shop"):
        assert [table["stream"] for table in project.manifest(name, DAY)["tables"]] == [f"{name}-{name}_orders"]
    assert not project.manifest_path("postgres", DAY).exists()


def documented(language):
    """The first block of a language in the page on several sources."""
    page = (ROOT / "docs/how-to/sources.md").read_text()
    return re.search(rf"```{language}\n(.*?)```", page, re.S)[1]


def test_the_documented_second_database_is_landed_loaded_and_verified(shop, make_database):
    crm = make_database("crm")
    crm.run("CREATE TABLE contacts AS SELECT 1 AS id, 'Ada' AS name")
    path = shop.folder / "meltano.yml"
    content, more = yaml.safe_load(path.read_text()), yaml.safe_load(documented("yaml"))
    content["jobs"] += more["jobs"]
    content["plugins"]["extractors"] += more["plugins"]["extractors"]
    path.write_text(yaml.safe_dump(content))
    values = {"CRM_HOST": crm.host, "CRM_PORT": crm.port, "CRM_DB": crm.name, "CRM_USER": crm.user,
              "CRM_PASSWORD": _dotenv_quoted(crm.password)}
    assert {line.partition("=")[0] for line in documented("ini").splitlines()} == {*values}
    with (shop.folder / ".env").open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    shop.land(DAY)
    assert f"Source 'crm' is not landed for {DAY}" in shop.load(DAY, check=False).text
    shop.meltano("run", "extract_crm", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY)
    assert [table["stream"] for table in shop.manifest("crm", DAY)["tables"]] == ["public-contacts"]
    shop.meltano("run", "load_to_postgres", MELTANO_ENVIRONMENT="load", EXTRACTED_AT=DAY)
    assert "4 of 4 tables equal" in shop.landing("verify", DAY).stdout
    assert shop.warehouse.run("SELECT * FROM contacts") == [(1, "Ada")]


def test_tap_and_target_that_differ_commit_nothing(shop):
    refused = shop.pipe(shop.tap_postgres(source="erp"), shop.target_csv(source="crm"), check=False, DATESTAMP=DAY)
    assert refused.returncode == 1
    assert "The tap lands source erp, but target-csv is configured for source crm" in refused.text
    assert not shop.landed()
