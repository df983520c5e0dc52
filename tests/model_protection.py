"""Protected columns as they have to be landed, in plain Python: a part of the state machine's model."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from model import INTEGERS, Table

TOKEN, ENCRYPT, MASK, DROP = "token", "encrypt", "mask", "drop"
NUMBERS = (*INTEGERS, "numeric", "real", "double precision")


@dataclass(frozen=True)
class Keys:
    """The key of tokens, and those that encrypt by their id: the first one does, all reveal."""

    token: bytes
    encryption: Mapping[str, bytes]

    @property
    def variable(self) -> str:
        """PROTECTION_KEYS."""
        return ",".join(f"{id_}:{base64.b64encode(key).decode()}"
                        for id_, key in {TOKEN: self.token, **self.encryption}.items())

    def protected(self, value: str | None, type_: str, method: str) -> str | None:
        """What is landed for a value."""
        if value is None:
            return None
        if method == TOKEN:
            mac = hmac.digest(_derived(self.token, TOKEN, 32), canonical(value, type_).encode(), "sha256")
            return base64.urlsafe_b64encode(mac).decode().rstrip("=")
        if method == ENCRYPT:
            id_, key = next(iter(self.encryption.items()))
            content = AESSIV(_derived(key, ENCRYPT, 64)).encrypt(value.encode(), None)
            return f"enc:{id_}:{base64.b64encode(content).decode()}"
        return "****" + (value[-2:] if len(value) >= 8 else "")


@dataclass(frozen=True)
class Protection:
    """The methods by column, and the keys."""

    methods: Mapping[str, str]
    keys: Keys

    def landed(self, table: Table) -> Table:
        """A table as it has to be landed."""
        return self._made(table, (TOKEN, ENCRYPT, MASK))

    def revealed(self, table: Table) -> Table:
        """A table as `landing reveal` has to write it."""
        return self._made(table, (TOKEN, MASK))

    def _made(self, table: Table, methods: tuple[str, ...]) -> Table:
        kept = [(place, self.methods.get(name, "")) for place, name in enumerate(table.columns)
                if self.methods.get(name) != DROP]
        types, names = [*table.columns.values()], [*table.columns]
        rows = [tuple(self.keys.protected(row[place], types[place], method) if method in methods else row[place]
                      for place, method in kept) for row in table.rows]
        return replace(table, rows=rows, columns={names[place]: "text" if method else types[place]
                                                  for place, method in kept})

    def takes_a_key(self, table: Table) -> bool:
        """Whether a part of the table's key would no longer tell rows apart."""
        return any(self.methods.get(name) in (MASK, DROP) for name in table.key)

    def ways(self, table: Table) -> dict[str, str]:
        """How each column is protected: rows of two ways do not go together. Encrypted values name their key."""
        token = f"{TOKEN} {hashlib.sha256(self.keys.token).hexdigest()}"
        ways = {name: self.methods.get(name, "plain") for name in table.columns}
        return {name: token if way == TOKEN else way for name, way in ways.items()}


def canonical(value: str, type_: str) -> str:
    """The same text for 1, 1.0 and `1`."""
    name = type_.partition("(")[0]
    if type_.endswith("[]"):
        return value
    if name in NUMBERS:
        try:
            text = f"{Decimal(value):f}"
        except InvalidOperation:
            return value
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text in ("-0", "") else text
    return value[0] if name == "boolean" else value


def _derived(secret: bytes, purpose: str, length: int) -> bytes:
    """HKDF with SHA-256 (RFC 5869), without salt."""
    extracted = hmac.digest(bytes(32), secret, "sha256")
    found, block, number = b"", b"", 1
    while len(found) < length:
        block = hmac.digest(extracted, block + f"landing {purpose}".encode() + bytes([number]), "sha256")
        found, number = found + block, number + 1
    return found[:length]
