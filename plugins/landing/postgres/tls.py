"""TLS settings of PostgreSQL connections: certificate authorities, and reasons for failed handshakes."""

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
    """The reason of a failed handshake, by Python's ssl module: libpq reports none with a wheel's bundled OpenSSL."""
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
    """The certificate authority of a server: `given`, else `variable`, else PGSSLROOTCERT, else libpq's default.

    Args:
        mode: libpq's sslmode.
        variable: Name of the variable with the path, which is relative to the project; `system` for this system's.
        values: The environment.
        given: A path, or the certificate itself, as the MeltanoLabs plugins accept it.

    Raises:
        SettingError: `mode` verifies certificates, and the file does not exist.
    """
    named = given or values.get(variable) or values.get("PGSSLROOTCERT") or "~/.postgresql/root.crt"
    if "-----BEGIN" in named:
        return named
    if named == "system":
        return _system_authorities(mode, variable)
    path = settings.root() / Path(named).expanduser()
    if mode.startswith("verify-") and not path.is_file():
        raise SettingError(
            f"ssl_mode is {mode}, but there is no certificate authority at {path}. Set {variable} in .env, or "
            "ssl_certificate_authority in meltano.yml, to its file, and run again."
        )
    return str(path)


def _system_authorities(mode: str, variable: str) -> str:
    """The file of this system's authorities: libpq's `system` would use the defaults of a wheel's bundled OpenSSL."""
    if mode.startswith("verify-") and mode != "verify-full":
        raise SettingError(f"{variable}=system requires ssl_mode verify-full, since anyone can get a certificate from "
                           f"a public authority; ssl_mode is {mode}. Set SSLMODE=verify-full in .env, and run again.")
    files = [os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *BUNDLES]
    found = next((file for file in files if file and Path(file).is_file()), None)
    if found is None and mode.startswith("verify-"):
        raise SettingError(f"{variable}=system, but this system has no file of certificate authorities ("
                           f"{', '.join(BUNDLES)}). Install it (Debian: apt-get install ca-certificates), set "
                           f"SSL_CERT_FILE to its path, or {variable} to the authority's own file, and run again.")
    return found or ""


def with_certificate_authority(config: Mapping[str, Any], variable: str) -> dict[str, Any]:
    """Settings of a MeltanoLabs plugin with `ssl_certificate_authority` resolved by certificate_authority().

    The plugin does not expand its default, a path with `~`, and treats the path of a missing file as a certificate.
    """
    mode = str(config.get("ssl_mode", "verify-full")) if config.get("ssl_enable") else ""
    given = config.get("ssl_certificate_authority")
    return {**config, "ssl_certificate_authority": certificate_authority(mode, variable, os.environ, given)}
