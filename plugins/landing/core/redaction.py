"""Keeps secrets out of texts that are stored or sent."""

from __future__ import annotations

import os
import re

from landing.core.errors import printable
from landing.core.settings import settings

SECRET = re.compile("PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|PRIVATE_KEY|ACCOUNT_KEY|STORAGE_(ACCESS|MASTER|SAS)_KEY|"
                    "SQLALCHEMY_URL|ALERT_URLS|^PROTECTION_KEYS$", re.IGNORECASE)
IN_URL = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")
SHORTEST = 4  # characters: replacing shorter ones would only garble the text
HIDDEN = "***"


def without_secrets(text: str) -> str:
    """Replace the values of secret variables, in the environment or .env, and passwords in URLs.

    A password that is also the value of another variable, such as a user named like his password, is not secret.
    """
    try:
        values = settings()
    except OSError:
        values = dict(os.environ)
    secret = {value for name, value in values.items() if SECRET.search(name) and len(value) >= SHORTEST}
    secret -= {value for name, value in values.items() if not SECRET.search(name)}
    for value in sorted(secret, key=len, reverse=True):
        for form in (value, " ".join(value.split()), printable(value)):  # as messages are put together
            text = text.replace(form, HIDDEN)
    return IN_URL.sub(rf"\1:{HIDDEN}@", text)
