"""Passwords of any kind reach every part, and nobody else; what is landed is not for everybody on the machine."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import connections
import psycopg2
import pytest
from conftest import CANARY, PASSWORD, _dotenv_quoted, require_others_through
from landing import api
from landing.core.errors import LandingError
from landing.core.reporting import stored
from landing.core.settings import exposed_env, settings

DAY = "2024-01-20"
HARD = {  # passwords as a person writes them into .env
    "plain": "abc",
    "spaces": " a b ",
    "quotes": "a'b\"c`d",
    "percent": "%s%%%(x)s%41",
    "at": "a@b:c/d?e=f&g@",
    "hash": "#a #b",
    "dollar": "$a$$HOME$",
    "backslash": "\\a\\\\n\\",
    "other scripts": "pä漢字😀\u202eß",
    "looks like YAML": "{a: [1, null]}",
    "looks like JSON": '{"a": 1}',
    "true": "true",
    "number": "0012e5",
    "null": "null",
    "separators": "a,b;c|d\te",
    "long": "x" * 500,
    "equals": "a=b==",
    "braces": "a{b}{{c}}}",
    "exclamation": "!a!!b^&*()<>~[]",
}
DUMP = """
import json, sys
print("DUMP" + json.dumps(json.load(open(sys.argv[sys.argv.index("--config") + 1]))))
"""


@pytest.fixture
def role(project):
    """A role of the warehouse whose password a test sets, and .env with it."""
    name = f"hard_{project.warehouse.name}"
    project.warehouse.run(f"CREATE ROLE {name} LOGIN")
    yield name
    project.warehouse.run(f"DROP ROLE {name}")


def test_a_hard_password_opens_the_warehouse_for_command_notebook_and_tools(project, role, monkeypatch):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))
    env = (project.folder / ".env").read_text()
    for password in HARD.values():
        project.warehouse.run(f"ALTER ROLE {role} PASSWORD %s", password)
        (project.folder / ".env").write_text(
            f"{env}TARGET_POSTGRES_USER={role}\nTARGET_POSTGRES_PASSWORD={_dotenv_quoted(password)}\n")
        connection = api.connect()  # the notebook's way in, too
        assert connection.info.user == role
        connection.close()
    found = connections.servers(settings())
    assert password not in repr(found)


def test_a_hard_password_reaches_the_plugins_through_meltano_as_it_is(project):
    (project.folder / "dump.py").write_text(DUMP)
    names = {f"P{number}": password for number, password in enumerate(HARD.values())}
    # To Meltano a `$` before a capital means a variable: an unset one stops it, of any other the text stays.
    names["P"] = "a$NO_SUCH_VARIABLE"
    with (project.folder / ".env").open("a") as env:
        env.writelines(f"{name}={_dotenv_quoted(password)}\n" for name, password in names.items())
    dumper = {"name": "tap-dump", "namespace": "tap_dump", "executable": str(project.folder / "dump"),
              "settings": [{"name": name, "sensitive": True} for name in names],
              "config": {name: f"${name}" for name in names}}
    (project.folder / "dump").write_text(f"#!/bin/sh\nexec {sys.executable} {project.folder}/dump.py \"$@\"\n")
    (project.folder / "dump").chmod(0o755)
    text = (project.folder / "meltano.yml").read_text()
    (project.folder / "meltano.yml").write_text(
        text.replace("  extractors:\n  - name: tap-postgres", f"  extractors:\n  - {json.dumps(dumper)}\n"
                     "  - name: tap-postgres", 1))
    said = project.meltano("invoke", "tap-dump", NO_SUCH_VARIABLE="").stdout
    assert json.loads(said.partition("DUMP")[2].splitlines()[0]) == names


def test_a_password_that_meltano_would_expand_comes_from_libpqs_password_file(shop):
    shop.source.run("DROP ROLE IF EXISTS dollar; CREATE ROLE dollar LOGIN SUPERUSER PASSWORD 'r$Abc'")
    passwords = shop.folder / "pgpass"
    passwords.write_text("127.0.0.1:*:*:dollar:r$Abc\n")
    passwords.chmod(0o600)
    lines = [line for line in (shop.folder / ".env").read_text().splitlines()
             if not line.startswith(("SOURCE_POSTGRES_USER", "SOURCE_POSTGRES_PASSWORD"))]
    lines += ["SOURCE_POSTGRES_USER=dollar", "SOURCE_POSTGRES_PASSWORD="]
    (shop.folder / ".env").write_text("\n".join(lines) + "\n")
    try:
        shop.meltano("run", "extract_postgres", DATESTAMP="2024-01-20", PGPASSFILE=str(passwords))
        assert shop.manifest("postgres", "2024-01-20")["tables"]
        assert "0 of them refused" in shop.landing("certify", PGPASSFILE=str(passwords)).stdout
    finally:
        shop.source.run("DROP ROLE dollar")


class Cut:
    """A server that hangs up: at once, or when it has passed on so many bytes of the real one."""

    def __init__(self, behind: int, after: int) -> None:
        self._behind, self._after = behind, after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        left = self._after
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._behind)) as server:
            def ask() -> None:
                with contextlib.suppress(OSError):
                    while data := client.recv(1 << 16):
                        server.sendall(data)

            threading.Thread(target=ask, daemon=True).start()
            while left > 0 and (data := server.recv(min(left, 1 << 16))):
                client.sendall(data)
                left -= len(data)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cuts(server):
    """Ports of servers that hang up at different moments."""
    found = [Cut(server.port, after) for after in (0, 20, 1_500)]
    yield [one.port for one in found]
    for one in found:
        one.close()


def written(folder):
    """What is in every file that a run may have written."""
    return {str(path): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink() and path.name != ".env" and "config-" not in path.name}


def told(project, result):
    """A failure that says nothing of the password, and has a traceback for those only who ask for DEBUG."""
    assert result.returncode != 0
    assert CANARY not in result.text
    assert "Traceback" not in result.text or " | DEBUG " in result.text, result.text
    for path, content in written(project.folder).items():
        assert CANARY.encode() not in content, path


def test_a_failed_connection_tells_nobody_the_password(shop, cuts, monkeypatch):
    loud = {"LOGLEVEL": "DEBUG", "TAP_POSTGRES_LOGLEVEL": "DEBUG", "TARGET_POSTGRES_LOGLEVEL": "DEBUG"}
    wrong = {"user": "nobody of that name", "password": PASSWORD + "wrong"}
    for change in (wrong, {"port": cuts[2]}):
        config = shop.config(**shop.source.settings() | change, filter_schemas=["public"])
        told(shop, shop.run([shop.tap_postgres()[0], "--config", config], DATESTAMP=DAY, **loud))
    foreign = [{"type": "SCHEMA", "stream": "s", "schema": {"properties": {"a": {"type": "string"}}},
                "key_properties": []}, {"type": "RECORD", "stream": "s", "record": {"a": "b"}}]
    messages = "\n".join(map(json.dumps, foreign))
    for change in (wrong, {"port": cuts[2]}):  # the stock target's way in
        config = shop.config(**shop.warehouse.settings() | change)
        told(shop, shop.run([shop.target_postgres()[0], "--config", config], messages, **loud))
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(shop.folder))
    for port in (1, *cuts):
        monkeypatch.setenv("TARGET_POSTGRES_PORT", str(port))
        with pytest.raises((LandingError, psycopg2.Error)) as refusal, api.connect().cursor() as cursor:
            cursor.execute("SELECT repeat('x', 100000)")
        assert CANARY not in str(refusal.value)
    told(shop, shop.meltano("--log-level", "debug", "run", "extract_postgres", check=False, DATESTAMP=DAY,
                            MELTANO_ENVIRONMENT="extract", SOURCE_POSTGRES_PORT="1"))
    assert not shop.landed()


def others(folder):
    """What everybody on the machine may do with any file or folder below."""
    return {str(path): stat.filemode(path.lstat().st_mode) for path in [folder, *folder.rglob("*")]
            if not path.is_symlink() and path.lstat().st_mode & 0o007}


def test_what_is_landed_is_for_its_owner_and_group_only_from_the_first_byte_on(shop):
    """Seen while a run is at work, too: with its staging folder, and with the settings that Meltano wrote for it."""
    old = os.umask(0o022)
    try:
        with contextlib.closing(shop.source.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
            run = subprocess.Popen(
                [str(shop.folder / ".venv/bin/meltano"), "run", "extract_postgres"], cwd=shop.folder,
                env=shop.environment(MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY), start_new_session=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            deadline = time.monotonic() + 60
            while not shop.source.one("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                assert time.monotonic() < deadline, "the tap never came to its tables"
                assert run.poll() is None, run.stdout.read()
                time.sleep(0.05)
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
        left = [path for path in (shop.folder / ".meltano/run").rglob("*.config.json")
                if CANARY in path.read_text()]
        assert left, "a run that is killed leaves its settings behind"
        for path in left:
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        shop.land(DAY, "postgres")
        assert shop.output.stat().st_mode & 0o070, "the group may read on"
        assert others(shop.output) == {}
    finally:
        os.umask(old)


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_passwords_that_everybody_can_read_are_told_and_how_to_close_them(tmp_path, monkeypatch, mode, exposed):
    require_others_through(tmp_path)
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))
    assert exposed_env() is None
    (tmp_path / ".env").write_text("A=b")
    (tmp_path / ".env").chmod(mode)
    said = exposed_env()
    assert bool(said) == exposed
    assert not said or said.endswith(f"Run: chmod 600 {tmp_path / '.env'}")
    tmp_path.chmod(0o700)  # a folder that nobody else can enter protects what is in it
    assert exposed_env() is None


def test_the_warning_stands_once_in_a_run_and_stops_nothing(shop):
    require_others_through(shop.folder)
    (shop.folder / ".env").chmod(0o644)
    assert shop.land(DAY, "postgres").text.count("chmod 600") == 1
    result = shop.landing("list", "--json")
    assert result.stderr.count("chmod 600") == 1
    assert json.loads(result.stdout)


def test_an_error_that_repeats_a_password_is_stored_without_it(project, monkeypatch):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))  # its .env has PASSWORD
    monkeypatch.setenv("SOURCE_POSTGRES_USER", "postgres")
    monkeypatch.setenv("MY_TOKEN", "postgres")
    told = stored(LandingError(f"postgres: invalid port in //u:{PASSWORD}@h, a://someone:else@h.\x1b[2J\nRun again."))
    assert told == "postgres: invalid port in //u:***@h, a://someone:***@h.\\x1b[2J Run again."
