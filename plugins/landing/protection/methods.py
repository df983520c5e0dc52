"""The methods: functions from the UTF-8 text of a value to the CSV field that is landed.

    token     HMAC-SHA-256 of the value's canonical text: equal values give equal tokens in all tables and sources
    encrypt   AES-SIV (deterministic, authenticated) of the text, with the key's id: `enc:<id>:<base64>`
    mask      `****` and, of a text of at least eight characters, its last two: nothing else, not even its length
    drop      the column is not landed
    plain     an exception from a pattern
"""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING

from landing.core.errors import SettingError
from landing.model.csv_dialect import quoted
from landing.model.schema import Protection
from landing.protection.canonical import canonical
from landing.protection.keys import Key, KeyRing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

TOKEN, ENCRYPT, MASK, DROP, PLAIN = METHODS = ("token", "encrypt", "mask", "drop", "plain")
Method = Callable[[bytes], bytes]

ENCRYPTED = b"enc:"
TOKEN_BYTES, AES_SIV_BYTES = 32, 64  # of their keys
URL_SAFE = bytes.maketrans(b"+/", b"-_")
MASKED, SHOWN, SHORTEST = "****", 2, 8  # characters


def method_of(protection: Protection, keys: KeyRing) -> Method:
    """The function for a column. Raises SettingError if its key is missing."""
    if protection.method == TOKEN:
        return _token(keys.token, protection.type)
    return encryption(keys.encryption) if protection.method == ENCRYPT else _mask


def _token(key: Key, type_: str) -> Method:
    keyed, form = hmac.new(key.derived(TOKEN, TOKEN_BYTES), digestmod="sha256"), canonical(type_)

    def token(value: bytes) -> bytes:
        mac = keyed.copy()
        mac.update(form(value))
        return binascii.b2a_base64(mac.digest(), newline=False)[:-1].translate(URL_SAFE)

    return token


def encryption(key: Key) -> Method:
    """The function that encrypts with a key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV  # here: only protected columns need it

    cipher, head = AESSIV(key.derived(ENCRYPT, AES_SIV_BYTES)), ENCRYPTED + key.id.encode() + b":"

    def encrypt(value: bytes) -> bytes:
        return head + binascii.b2a_base64(cipher.encrypt(value, None), newline=False)

    return encrypt


def _mask(value: bytes) -> bytes:
    text = value.decode()
    return quoted(MASKED + (text[-SHOWN:] if len(text) >= SHORTEST else "")).encode()


class Decryption:
    """Decrypts values, each with the key that it names."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._ciphers: dict[str, AESSIV] = {}

    def __call__(self, text: str) -> str:
        """The plain text.

        Raises:
            SettingError: The key is missing, or another one.
            ValueError: It is not an encrypted value.
        """
        from cryptography.exceptions import InvalidTag

        mark, id_, value = text.split(":")
        if f"{mark}:".encode() != ENCRYPTED:
            raise ValueError("not an encrypted value")
        try:
            return self._cipher(id_).decrypt(binascii.a2b_base64(value), None).decode()
        except InvalidTag:
            raise SettingError(f"The key {id_!r} does not decrypt the values: it is another key of that id, or they "
                               "were changed. Provide the key that encrypted them, and run again.") from None

    def _cipher(self, id_: str) -> AESSIV:
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        if id_ not in self._ciphers:
            self._ciphers[id_] = AESSIV(self._keys.of(id_).derived(ENCRYPT, AES_SIV_BYTES))
        return self._ciphers[id_]
