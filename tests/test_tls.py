"""With verify-full rows go only to and from the server that the certificate authority vouches for."""

import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import connections
import pytest
import servers
from conftest import CANARY, PASSWORD, require_others_through
from landing import api
from landing.core.errors import SettingError, UnreachableError
from landing.extract.postgres.tap import TapPostgres
from landing.load.target import TargetPostgres
from landing.postgres import connect as postgres
from landing.postgres import tls as tls_module
from landing.singer.signals import SignalHandling
from servers import Server
from tls import Authority, fronts

DAY = "2024-01-20"
DEBIAN = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin/postgres"))
DISTRUSTED = ("certificate verify failed", "_POSTGRES_SSLROOTCERT in .env to the file of the right")
REFUSED = {  # what is said of a server that is not trusted, and what then helps
    "expired": DISTRUSTED,
    "unknown authority": DISTRUSTED,
    "wrong host": ("does not match host name", "Use the host name of the certificate in .env"),
    "plain": ("server does not support SSL", "Enable TLS on the server"),
}


@pytest.fixture(scope="module")
def tls(server, tmp_path_factory):
    """An authority, and ports of servers that it vouches for and of such that it does not."""
    with fronts(tmp_path_factory.mktemp("tls"), server.port) as (authority, ports):
        yield authority, {**ports, "plain": server.port}


def verifying(database, port, authority=None):
    """Settings that want a server verified."""
    return {**database.settings(), "host": "localhost", "port": port, "ssl_mode": "verify-full",
            **({"ssl_certificate_authority": str(authority)} if authority else {})}


def refused(result, *said):
    assert result.returncode == 1
    assert CANARY not in result.text
    assert "Traceback" not in result.text
    for words in said:
        assert words in result.text, result.text


def environment(role, port, authority):
    prefix = f"{role}_POSTGRES_"
    return {f"{prefix}HOST": "localhost", f"{prefix}PORT": str(port), f"{prefix}SSLMODE": "verify-full",
            f"{prefix}SSLROOTCERT": str(authority)}


@pytest.fixture
def opened(monkeypatch):
    """Opens the connection that a plugin of these settings would open, in this process."""
    monkeypatch.setattr(SignalHandling, "handle_signals", lambda _: None)

    def connect(plugin, config):
        one = plugin(config=config)
        return postgres.connect(one.dsn, one.name) if plugin is TapPostgres else one._connect()

    return connect


def test_rows_go_over_tls_from_the_source_to_the_warehouse_as_env_has_it(shop, tls):
    authority, ports = tls
    (shop.folder / "authority.pem").write_bytes(authority.file.read_bytes())
    text = (shop.folder / ".env").read_text().replace("SSLMODE=disable", "SSLMODE=verify-full")
    text = text.replace(f"PORT={shop.source.port}", f"PORT={ports['good']}").replace("127.0.0.1", "localhost")
    (shop.folder / ".env").write_text(text + "SOURCE_POSTGRES_SSLROOTCERT=authority.pem\n")
    shop.meltano("run", "extract_postgres", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY)
    config = shop.config(**verifying(shop.warehouse, ports["good"]))
    shop.pipe(shop.tap_landed(sources=["postgres"]), [shop.target_postgres()[0], "--config", config], EXTRACTED_AT=DAY,
              TARGET_POSTGRES_SSLROOTCERT="authority.pem")
    assert shop.warehouse.one("SELECT count(*) FROM orders") == 100
    assert not (shop.folder / ".secrets").exists(), "a path is not taken for a certificate"


@pytest.mark.parametrize(("plugin", "variable"), [(TapPostgres, "SOURCE_POSTGRES_SSLROOTCERT"),
                                                  (TargetPostgres, "TARGET_POSTGRES_SSLROOTCERT")])
def test_a_server_that_is_not_trusted_gets_no_rows_and_gives_none(project, tls, opened, monkeypatch, plugin, variable):
    authority, ports = tls
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))
    opened(plugin, verifying(project.source, ports["good"], authority.file)).close()
    for wrong, said in REFUSED.items():
        with pytest.raises(UnreachableError) as refusal:
            opened(plugin, verifying(project.source, ports[wrong], authority.file))
        assert all(words in str(refusal.value) for words in said)
        assert CANARY not in str(refusal.value)
    # An authority that is not there, and one that is none.
    monkeypatch.setenv("HOME", str(project.folder))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    for given, found in (("mising.pem", "mising.pem"), (None, ".postgresql/root.crt")):
        with pytest.raises(SettingError, match=f"no certificate authority at {project.folder / found}.*{variable}"):
            opened(plugin, verifying(project.source, ports["good"], given))
    (project.folder / "junk.pem").write_text("no certificate")
    with pytest.raises(UnreachableError, match=r"SSLROOTCERT in \.env to a file in PEM format"):
        opened(plugin, verifying(project.source, ports["good"], "junk.pem"))
    monkeypatch.setenv(variable, str(authority.file))
    opened(plugin, verifying(project.source, ports["good"])).close()
    assert not (project.folder / ".secrets").exists()


def test_a_tap_and_a_target_that_trust_nobody_say_so_and_fail(shop, tls):
    authority, ports = tls
    config = shop.config(**verifying(shop.source, ports["wrong host"], authority.file))
    refused(shop.run([shop.tap_postgres()[0], "--config", config, "--discover"], DATESTAMP=DAY), *REFUSED["wrong host"])
    shop.land(DAY, "postgres")
    config = shop.config(**verifying(shop.warehouse, ports["unknown authority"], authority.file))
    target = [shop.target_postgres()[0], "--config", config]
    refused(shop.pipe(shop.tap_landed(sources=["postgres"]), target, check=False, EXTRACTED_AT=DAY), *DISTRUSTED)
    assert shop.warehouse.run("SELECT 1 FROM pg_tables WHERE schemaname = 'public_history'") == []


def test_the_landing_command_and_the_notebook_trust_no_other_warehouse_either(shop, tls, monkeypatch):
    authority, ports = tls
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(shop.folder))
    for name, value in environment("TARGET", ports["good"], authority.file).items():
        monkeypatch.setenv(name, value)
    connection = api.connect()  # the notebook's way in, too
    assert connection.info.ssl_in_use
    connection.close()
    for wrong, said in REFUSED.items():
        monkeypatch.setenv("TARGET_POSTGRES_PORT", str(ports[wrong]))
        with pytest.raises(UnreachableError) as refusal:
            api.connect()
        assert all(words in str(refusal.value) for words in said)
        assert CANARY not in str(refusal.value)
    refused(shop.landing("diff", DAY, DAY, check=False), *REFUSED["plain"])
    monkeypatch.setenv("TARGET_POSTGRES_SSLROOTCERT", "mising.pem")
    with pytest.raises(SettingError, match=f"no certificate authority at {shop.folder}/mising.pem"):
        api.connect()


def test_dbeaver_and_pgadmin_verify_the_servers_too(shop, tls):
    authority, ports = tls
    values = {**environment("TARGET", ports["good"], authority.file), "TARGET_POSTGRES_DB": shop.warehouse.name,
              "TARGET_POSTGRES_USER": shop.warehouse.user, "TARGET_POSTGRES_PASSWORD": PASSWORD}
    connections.write(shop.folder, values)
    expected = {"sslmode": "verify-full", "sslrootcert": str(authority.file)}
    only, = json.loads((shop.folder / ".dbeaver/data-sources.json").read_text())["connections"].values()
    assert only["configuration"]["properties"] == expected
    only, = json.loads((shop.folder / ".pgadmin/servers.json").read_text())["Servers"].values()
    assert expected.items() <= only["ConnectionParameters"].items()


def test_a_wrong_authority_is_named_as_such_beside_a_second_openssl(project, tls):
    """psycopg comes with an OpenSSL of its own, and libpq's then finds no reason."""
    authority, ports = tls
    dsn = {**project.warehouse.dsn(), "host": "localhost", "port": ports["unknown authority"],
           "sslmode": "verify-full", "sslrootcert": str(authority.file)}
    text = ("import json, sys, psycopg\nfrom landing.postgres.connect import connect\n"
            "connect(json.load(sys.stdin), 'target-postgres')")
    failed = subprocess.run([sys.executable, "-c", text], input=json.dumps(dsn), capture_output=True, text=True,
                            check=False)
    assert "no SSL error reported" not in failed.stderr
    assert all(words in failed.stderr for words in DISTRUSTED), failed.stderr
    assert CANARY not in failed.stderr


def test_the_authorities_of_this_system_are_trusted_where_that_is_asked_for(project, tls, opened, monkeypatch):
    authority, ports = tls
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    for plugin, variable in ((TapPostgres, "SOURCE_POSTGRES_SSLROOTCERT"),
                             (TargetPostgres, "TARGET_POSTGRES_SSLROOTCERT")):
        monkeypatch.setenv(variable, "system")
        opened(plugin, verifying(project.source, ports["good"])).close()
        with pytest.raises(UnreachableError, match="certificate verify failed"):
            opened(plugin, verifying(project.source, ports["unknown authority"]))
        with pytest.raises(SettingError, match=f"{variable}=system requires ssl_mode verify-full"):
            opened(plugin, {**verifying(project.source, ports["good"]), "ssl_mode": "verify-ca"})
        monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
        with monkeypatch.context() as patch:
            patch.setattr(tls_module, "BUNDLES", ("/nowhere/either",))
            patch.setattr(ssl, "get_default_verify_paths", lambda: SimpleNamespace(cafile=None))
            with pytest.raises(SettingError, match="no file of certificate authorities"):
                opened(plugin, verifying(project.source, ports["good"]))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    assert not (project.folder / ".secrets").exists()


@pytest.mark.skipif(not DEBIAN, reason="no PostgreSQL with OpenSSL here: apt-get install postgresql")
def test_postgresqls_own_tls_is_verified_too(tmp_path, monkeypatch):
    require_others_through(tmp_path)
    monkeypatch.setattr(servers, "find_binaries", lambda: DEBIAN[-1].parent)
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    certificate, key = authority.issue("good", "localhost")
    server = Server(tmp_path / "server", {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)})
    if server.account:
        os.chown(key, server.account.pw_uid, server.account.pw_gid)
    server.start()
    try:
        monkeypatch.chdir(tmp_path)
        names = {"HOST": "localhost", "PORT": str(server.port), "DB": "postgres", "USER": server.user,
                 "PASSWORD": server.password, "SSLMODE": "verify-full", "SSLROOTCERT": "ours.pem"}
        for name, value in names.items():
            monkeypatch.setenv(f"TARGET_POSTGRES_{name}", value)
        with api.connect().cursor() as cursor:
            cursor.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert cursor.fetchone() == (True,)
        for name, value, said in (("SSLROOTCERT", str(other.file), "certificate verify failed"),
                                  ("HOST", "127.0.0.1", "does not match host name")):
            with monkeypatch.context() as patch:
                patch.setenv(f"TARGET_POSTGRES_{name}", value)
                with pytest.raises(UnreachableError, match=said):
                    api.connect()
    finally:
        server.remove()
