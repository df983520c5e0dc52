"""PostgreSQL connections and COPY, hashed as it streams.

The session is pinned so that the same row gives the same bytes on every server, and gives them in the same order.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landing.core import settings
from landing.core.errors import SettingError

TLS_REQUEST = struct.pack("!II", 8, 80877103)  # PostgreSQL's SSLRequest

BUNDLES = (  # Debian and Alpine; Fedora and RHEL; SUSE; macOS and BSD
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def tls_failure(arguments: Mapping[str, Any]) -> str | None:
    """Ask OpenSSL through Python for the reason: libpq finds none where psycopg has brought an OpenSSL of its own."""
    host = str(arguments.get("host", "localhost"))
    with contextlib.suppress(OSError, ValueError), \
            socket.create_connection((host, int(arguments.get("port", 5432))), timeout=10) as plain:
        plain.sendall(TLS_REQUEST)
        if plain.recv(1) != b"S":
            return None
        try:
            context = ssl.create_default_context(cafile=arguments.get("sslrootcert"))
            context.check_hostname = arguments.get("sslmode") == "verify-full"
            context.wrap_socket(plain, server_hostname=host).close()
        except ssl.SSLCertVerificationError as error:
            return f"certificate verify failed: {error.verify_message}"
        except ssl.SSLError as error:
            return f"{error.reason or error}"
    return None


def certificate_authority(mode: str, variable: str, values: Mapping[str, str], given: str | None = None) -> str:
    """The file of the authority that has to vouch for a server: the one given, else `variable`'s, else libpq's own.

    A path is relative to the project. Where `mode` verifies, SettingError says that there is no such file. What is
    given may be the certificate itself, as the MeltanoLabs plugins have it.
    """
    named = given or values.get(variable) or values.get("PGSSLROOTCERT") or "~/.postgresql/root.crt"
    if "-----BEGIN" in named:
        return named
    if named == "system":
        return _system_authorities(mode, variable)
    path = settings.root() / Path(named).expanduser()
    if mode.startswith("verify-") and not path.is_file():
        raise SettingError(
            f"ssl_mode is {mode}, and there is no certificate authority at {path}. Name its file as {variable} in "
            ".env, or as ssl_certificate_authority in meltano.yml, and run again."
        )
    return str(path)


def _system_authorities(mode: str, variable: str) -> str:
    """The file of this system's authorities: libpq's own `system` asks the OpenSSL that a wheel was built with."""
    if mode.startswith("verify-") and mode != "verify-full":
        raise SettingError(f"{variable}=system needs ssl_mode verify-full, as libpq has it: anybody can have a "
                           f"certificate of a public authority. ssl_mode is {mode}. Set SSLMODE=verify-full in .env, "
                           "and run again.")
    files = [os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *BUNDLES]
    found = next((file for file in files if file and Path(file).is_file()), None)
    if found is None and mode.startswith("verify-"):
        raise SettingError(f"{variable}=system, and this system has no file of certificate authorities ("
                           f"{', '.join(BUNDLES)}). Install it (Debian: apt-get install ca-certificates), name it as "
                           "SSL_CERT_FILE, or name the authority's own file, and run again.")
    return found or ""


def with_certificate_authority(config: Mapping[str, Any], variable: str) -> dict[str, Any]:
    """Settings of the MeltanoLabs plugins with `ssl_certificate_authority` as certificate_authority() has it.

    Their own default is a path with a `~` in it, and they take a path where no file is for the certificate itself.
    """
    mode = str(config.get("ssl_mode", "verify-full")) if config.get("ssl_enable") else ""
    given = config.get("ssl_certificate_authority")
    return {**config, "ssl_certificate_authority": certificate_authority(mode, variable, os.environ, given)}
