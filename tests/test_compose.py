"""docker-compose.yaml and docker/, as far as no engine is needed; `make compose-test` runs them on one."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys

import psycopg2
import pytest
import yaml
from conftest import ROOT, Database

TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
SECRETS = {"SOURCE_POSTGRES_PASSWORD", "TARGET_POSTGRES_PASSWORD"}
ONE_SHOT = {"sample", "meltano", "keys"}


def start_module():
    spec = importlib.util.spec_from_file_location("pgadmin_start", ROOT / "docker/pgadmin/start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_published_port_is_on_the_loopback_only():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 5
    for port in published:
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port), port
    assert not any("network_mode" in service or service.get("privileged") for service in SERVICES.values())


def test_two_services_never_publish_the_same_port_by_default():
    defaults = re.findall(r"127\.0\.0\.1:\$\{\w+:-(\d+)\}", TEXT)
    assert len(defaults) == len({*defaults}) == 5


def test_every_password_is_a_required_variable_and_none_stands_in_the_repository():
    seen = set()
    for service in SERVICES.values():
        for name, value in (service.get("environment") or {}).items():
            if "PASSWORD" in name and name != "PGADMIN_CONFIG_MASTER_PASSWORD_REQUIRED":
                required = re.fullmatch(r"\$\{(\w+):\?(\w+) is not set, write it into \.env\}", value)
                assert required, (name, value)
                assert required[1] == required[2]
                seen.add(required[1])
            elif isinstance(value, str):
                assert "PASSWORD" not in value, name  # not in a URL either
    assert seen == SECRETS
    assert "assword" not in (ROOT / "docker/pgadmin/servers.json").read_text()


def test_every_service_says_when_it_is_healthy_or_ends_by_itself():
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) != (name in ONE_SHOT), name
    assert SERVICES["sample"]["depends_on"] == {"source": {"condition": "service_healthy"}}
    for name in ("meltano", "airflow", "control"):
        assert SERVICES[name]["depends_on"]["sample"] == {"condition": "service_completed_successfully"}


def test_every_foreign_image_is_pinned_to_a_version():
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    stages = re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE)
    foreign = {*images, *(base for base in bases if base not in stages)}
    assert len(foreign) == 4
    for image in foreign:
        assert re.search(r":\d+\.\d+(\.\d+)?(-[a-z-]+)?$", image), image
    assert {service["build"]["target"] for service in SERVICES.values() if "build" in service} == {*stages}


def test_only_source_target_and_the_sample_start_without_a_profile():
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    assert profiles == {"source": None, "target": None, "sample": None, "meltano": ["tools"],
                        "airflow": ["airflow"], "pgadmin": ["inspect"],
                        **{name: ["workers"] for name in ("keys", "redis", "store", "control", "worker")}}


def test_the_example_env_names_every_variable_that_compose_reads():
    wanted = {*re.findall(r"\$\{(\w+)", TEXT)}
    assert wanted >= SECRETS
    assert wanted <= {*re.findall(r"^#?(\w+)=", EXAMPLE, re.MULTILINE)}


def test_in_a_container_the_servers_are_those_of_compose_whatever_env_says():
    for name in ("sample", "meltano", "airflow", "control", "worker", "pgadmin"):
        environment = SERVICES[name]["environment"]
        for side in ("SOURCE", "TARGET"):
            assert environment[f"{side}_POSTGRES_HOST"] == side.lower()
            assert environment[f"{side}_POSTGRES_PORT"] == "5432"


def test_every_mounted_file_and_volume_is_there():
    named = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            origin = volume.split(":")[0]
            if origin.startswith("."):
                assert (ROOT / origin).exists(), origin
            else:
                named.add(origin)
    assert named == {*COMPOSE["volumes"]}


def goes_into_the_image(path: str) -> bool:
    """What .dockerignore says of a file: the last pattern that names it, or a folder above it, decides."""
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.lstrip("!")
        if not pattern or pattern.startswith("#"):
            continue
        if pattern.startswith("**/"):
            named = any(fnmatch.fnmatchcase(part, pattern[3:]) for part in parts)
        else:
            assert "**" not in pattern
            # `*` in Docker's patterns does not cross a slash, and a folder stands for all in it.
            named = any(candidate.count("/") == pattern.count("/") and fnmatch.fnmatchcase(candidate, pattern)
                        for candidate in above)
        if named:
            kept = line.startswith("!")
    return kept


@pytest.mark.parametrize("path", [
    ".env", ".env.local", "plugins/.env", "demo/.env.old", ".git/config", ".secrets/key", "plugins/.secrets/key.pem",
    ".demo/server.json", ".airflow/airflow.cfg", ".meltano/meltano.db", "output/source=csv/x.csv",
    "extract/customers.csv", ".venv/bin/python", "plugins/.venv/bin/python", "orchestrate/airflow/.venv/bin/airflow",
    "plugins/landing/__pycache__/api.pyc", "tests/conftest.py",
])  # fmt: skip
def test_no_secret_and_nothing_made_goes_into_the_image(path):
    assert not goes_into_the_image(path)


@pytest.mark.parametrize("path", [
    "Makefile", "meltano.yml", "requirements.txt", "plugins/requirements.txt", "plugins/pyproject.toml",
    "plugins/landing/cli/main.py", "plugins/loaders/target-csv--landing.lock", "demo/shop.py", "demo/shop.sql",
    "demo/words.json", "demo/requirements.txt",
    "orchestrate/airflow/requirements.txt", "orchestrate/airflow/servers.py", "load/orders_with_details.sql",
    "orchestrate/airflow/workers/requirements.txt", "orchestrate/airflow/workers/keys.py",
])  # fmt: skip
def test_what_setup_and_the_jobs_need_goes_into_the_image(path):
    assert (ROOT / path).is_file()
    assert goes_into_the_image(path)


def test_workers_share_no_folder_but_the_sources_files_and_the_keys_which_they_only_read():
    assert SERVICES["worker"]["volumes"] == ["extract:/project/extract:ro", "keys:/keys:ro"]
    for name in ("control", "worker"):
        assert SERVICES[name]["environment"]["LANDING_ROOT"].startswith("${WORKERS_LANDING_ROOT:-s3://")
    assert "output:/project/output" not in SERVICES["control"]["volumes"]


def test_the_keys_of_all_containers_are_made_once_private_and_differ_between_installations(tmp_path):
    def keys(folder):
        folder.mkdir(exist_ok=True)
        subprocess.run([sys.executable, ROOT / "orchestrate/airflow/workers/keys.py", folder], check=True)
        assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
            "airflow.env": 0o600, "redis.conf": 0o600}
        return {path.name: path.read_text() for path in folder.iterdir()}

    first = keys(tmp_path / "one")
    assert keys(tmp_path / "one") == first
    values = [line.partition("=")[2] for line in first["airflow.env"].splitlines()]
    others = [line.partition("=")[2] for line in keys(tmp_path / "two")["airflow.env"].splitlines()]
    assert len(values) == 4
    assert not {*values} & {*others}
    password = re.search(r"^requirepass (\w{40,})$", first["redis.conf"], re.MULTILINE)[1]
    assert values[-1] == f"redis://:{password}@redis:6379/0"


def test_the_image_runs_as_a_user_of_its_own_and_fetches_nothing_from_elsewhere():
    assert re.search(r"^USER landing$", DOCKERFILE, re.MULTILINE)
    assert "USER root" not in DOCKERFILE
    assert not re.search(r"^ADD |https?://|--from=", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) == ["--chown=landing:landing . ."]


def test_pgadmin_opens_both_servers_by_its_password_file(make_database, tmp_path):
    """By libpq, as pgAdmin does: the password is one that the file's syntax would break."""
    database: Database = make_database("pgadmin")
    role = 'a:b\\c"d'
    database.run('CREATE ROLE "a:b\\c""d" LOGIN PASSWORD %s', "x:y\\z 'ü\"")
    start = start_module()
    environment = {f"{side}_POSTGRES_{key}": value for side in ("SOURCE", "TARGET") for key, value in
                   {"USER": role, "DB": database.name, "PASSWORD": "x:y\\z 'ü\""}.items()}
    try:
        servers = start.registered(json.loads((ROOT / "docker/pgadmin/servers.json").read_text()), environment)
        assert [server["Host"] for server in servers["Servers"].values()] == ["source", "target"]
        # Compose's host names lead nowhere here: the same entries with where the test's server is.
        for server in servers["Servers"].values():
            server.update(Host=database.host, Port=database.port)
        start.ROLES[database.host] = "TARGET"
        passfile = tmp_path / "pgpass"
        passfile.touch(mode=0o600)
        passfile.write_text(start.passwords(servers, environment))
        for server in servers["Servers"].values():
            psycopg2.connect(host=server["Host"], port=server["Port"], user=server["Username"],
                             dbname=server["MaintenanceDB"], passfile=str(passfile)).close()
    finally:
        database.run('DROP ROLE "a:b\\c""d"')


@pytest.mark.skipif(not (shutil.which(os.environ.get("COMPOSE", "docker-compose"))), reason="no docker-compose here")
def test_compose_takes_the_file_and_refuses_it_without_a_password(tmp_path):
    def config(**variables: str) -> subprocess.CompletedProcess:
        others = {name: value for name, value in os.environ.items() if "_POSTGRES_" not in name}
        command = [os.environ.get("COMPOSE", "docker-compose"), "--project-directory", tmp_path,
                   "-f", ROOT / "docker-compose.yaml", "config"]
        return subprocess.run(command, env={**others, **variables}, capture_output=True, text=True, timeout=60)

    both = config(**dict.fromkeys(SECRETS, "one"))
    assert both.returncode == 0, both.stderr
    for missing in SECRETS:
        (there,) = SECRETS - {missing}
        for variables in ({there: "one"}, {there: "one", missing: ""}):
            refused = config(**variables)
            assert refused.returncode != 0
            assert f"{missing} is not set" in refused.stderr
