"""Keys of protected columns: `ID:BASE64`, from the variable PROTECTION_KEYS or a file.

The key called `token` makes tokens; of all others the first one encrypts, and each reveals what it has encrypted. A
message names an entry by its position: what is wrong with it may be that the key is where its id should be.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from landing.core.errors import SettingError, describe
from landing.core.settings import exposed, root, settings

VARIABLE, FILE_VARIABLE = "PROTECTION_KEYS", "PROTECTION_KEYS_FILE"
TOKEN = "token"  # noqa: S105 (the id of the key of tokens)
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
LEAST = 32  # bytes of a key
CHECK = 8  # bytes
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """A key. It is never used itself: each purpose has a key that is derived from it."""

    id: str
    secret: bytes = field(repr=False)

    def derived(self, purpose: str, length: int) -> bytes:
        """The key for a purpose."""
        from cryptography.hazmat.primitives.hashes import SHA256  # here: only protected columns need it
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), length, salt=None, info=f"landing {purpose}".encode()).derive(self.secret)

    @cached_property
    def check(self) -> str:
        """Tells this key from others of the same id, and nothing of the key."""
        return self.derived("check", CHECK).hex()


class KeyRing:
    """The configured keys by id, in order."""

    def __init__(self, keys: Mapping[str, Key], origin: str = VARIABLE) -> None:
        """`origin`: where they come from, for messages."""
        self._keys, self._origin = keys, origin

    @classmethod
    def configured(cls) -> KeyRing:
        """The keys of PROTECTION_KEYS or of the file that PROTECTION_KEYS_FILE names, in the environment or .env.

        Raises:
            SettingError: Both are set, the file cannot be read, or an entry is not a key.
        """
        found = settings()
        text, file = found.get(VARIABLE), found.get(FILE_VARIABLE)
        if text and file:
            raise SettingError(f"Both {VARIABLE} and {FILE_VARIABLE} are set. Unset one of them, and run again.")
        if not file:
            return cls(_parsed(re.split(r"[,\s]+", text or ""), VARIABLE))
        try:
            content = (root() / file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = describe(error) if isinstance(error, OSError) else f"{file} is not UTF-8"
            raise SettingError(f"{FILE_VARIABLE}: {why}. Correct it, and run again.") from None
        if warning := exposed(root() / file, "keys"):
            logger.warning("%s", warning)
        return cls.of_file(content, file)

    @classmethod
    def of_file(cls, content: str, name: str) -> KeyRing:
        """The keys of a file: an entry a line, comments behind `#`. Raises SettingError as configured() does."""
        return cls(_parsed([line.partition("#")[0].strip() for line in content.splitlines()], name), name)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._keys

    @property
    def token(self) -> Key:
        """The key of tokens. Raises SettingError if there is none."""
        return _required(self._keys.get(TOKEN), f"columns have the method token, and there is no key {TOKEN!r}", TOKEN)

    @property
    def encryption(self) -> Key:
        """The key that encrypts. Raises SettingError if there is none."""
        return _required(self.encryption_or_none, "columns have the method encrypt, and there is no key for it "
                         f"({TOKEN!r} is for tokens only)", "ID")

    @property
    def encryption_or_none(self) -> Key | None:
        """The key that encrypts; None if there is none."""
        return next((key for id_, key in self._keys.items() if id_ != TOKEN), None)

    def of(self, id_: str, check: str | None = None) -> Key:
        """The key with an id. Raises SettingError if there is none, or its check value is another one."""
        key = self._keys.get(id_)
        if key is None:
            raise SettingError(f"Values are encrypted with the key {id_!r}, which {self._origin} does not have. "
                               "Provide that key, and run again.")
        if check not in (None, key.check):
            raise SettingError(f"The key {id_!r} in {self._origin} is not the one that protected the values: its check "
                               f"value is {key.check}, and the manifest has {check}. Provide that key, and run again.")
        return key


def _required(key: Key | None, what: str, id_: str) -> Key:
    if key is None:
        raise SettingError(f"protect: {what}. Nothing was extracted. Make one by `landing key {id_}`, put it into "
                           f"{VARIABLE} or the file that {FILE_VARIABLE} names, in the environment or .env, and run "
                           "again.")
    return key


def _parsed(entries: list[str], origin: str) -> dict[str, Key]:
    found: dict[str, Key] = {}
    for number, entry in enumerate(entries, 1):
        if not entry:
            continue
        id_, _, text = entry.partition(":")
        if problem := next(_problems(id_, text, found), None):
            raise SettingError(f"Entry {number} of {origin} {problem}. Expected ID:BASE64, a key of at least {LEAST} "
                               "bytes (`landing key ID` makes one). Correct it, and run again.")
        found[id_] = Key(id_, _decoded(text))
    return found


def _problems(id_: str, text: str, found: Mapping[str, Key]) -> Iterator[str]:
    if not ID.fullmatch(id_) or not text:
        yield "has no id of up to 32 letters, digits, '.', '_' and '-' before a colon"
    elif id_ in found:
        yield "has the id of an earlier one"
    elif len(key := _decoded(text)) < LEAST:
        yield f"has a key of {len(key)} bytes" if key else "is not base64"


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def new_entry(id_: str) -> str:
    """A new random key as an entry. Raises SettingError for an id that cannot be one."""
    if not ID.fullmatch(id_):
        raise SettingError(f"{id_!r} is not an id of a key. Expected up to 32 letters, digits, '.', '_' and '-', and "
                           "a letter or digit first.")
    return f"{id_}:{base64.b64encode(secrets.token_bytes(LEAST)).decode()}"
