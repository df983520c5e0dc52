"""Servers that speak TLS, with authorities and certificates of their own.

The embedded PostgreSQL is built without OpenSSL, so TlsFront stands before it: PostgreSQL's own way into TLS, then
bytes to and fro.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TLS, GSS = 80877103, 80877104  # what a client may ask for before its first message


class Authority:
    """A certificate authority; `file` is its own certificate."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = self._write(f"{name}.pem", self._certificate(name, self._key, x509.BasicConstraints(True, 0)))

    def issue(self, name: str, *hosts: str, days: int = 1) -> tuple[Path, Path]:
        """Files of a certificate for these hosts, and of its key; with negative `days` it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([
            x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts])
        secret = self.folder / f"{name}.key"
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                             serialization.NoEncryption()))
        secret.chmod(0o600)
        return self._write(f"{name}.crt", self._certificate(name, key, names, days)), secret

    def _certificate(
        self, name: str, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType, days: int = 1
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name)).issuer_name(_named(self.name)).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=9)).not_valid_after(now + timedelta(days=days))
            .add_extension(extension, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.folder / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class TlsFront:
    """A port of 127.0.0.1 that asks for TLS, and passes on what comes to the server behind it."""

    def __init__(self, behind: int, certificate: Path, key: Path) -> None:
        self._behind = behind
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # Whoever does not trust the certificate goes in the middle of the handshake.
        with contextlib.suppress(OSError), client:
            while (asked := struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))[1]) == GSS:
                client.sendall(b"N")
            if asked != TLS:
                return
            client.sendall(b"S")
            with self._context.wrap_socket(client, server_side=True) as inside, \
                    socket.create_connection(("127.0.0.1", self._behind)) as server:
                _pass_on(inside, server)


def _pass_on(inside: ssl.SSLSocket, server: socket.socket) -> None:
    """Until one of them ends."""
    while True:
        ready = [inside] if inside.pending() else select.select([inside, server], [], [])[0]
        for one, other in ((inside, server), (server, inside)):
            if one in ready:
                if not (data := one.recv(1 << 16)):
                    return
                other.sendall(data)


@contextlib.contextmanager
def fronts(folder: Path, behind: int) -> Iterator[tuple[Authority, dict[str, int]]]:
    """An authority, and the ports of servers with good and with bad certificates, by what is wrong with them."""
    ours, other = Authority(folder, "ours"), Authority(folder, "other")
    issued = {
        "good": ours.issue("good", "localhost", "127.0.0.1"),
        "expired": ours.issue("expired", "localhost", "127.0.0.1", days=-1),
        "wrong host": ours.issue("elsewhere", "elsewhere.example"),
        "unknown authority": other.issue("foreign", "localhost", "127.0.0.1"),
    }
    opened = {name: TlsFront(behind, *files) for name, files in issued.items()}
    try:
        yield ours, {name: front.port for name, front in opened.items()}
    finally:
        for front in opened.values():
            front.close()
