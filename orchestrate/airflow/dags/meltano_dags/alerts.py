"""Alerts: one message to each service in ALERT_URLS, by the apprise library.

An alert never changes the outcome of what it reports: an error while sending it is logged. Its URLs contain passwords
and tokens, which apprise writes to its log; that log is off, and ours names a URL by its position and scheme.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from datetime import datetime, time

from landing.api import SettingError, settings, without_secrets

SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*(?=://)"
SEPARATOR = re.compile(rf"[\s,]+(?={SCHEME})")
logger = logging.getLogger(__name__)


def urls() -> list[str]:
    """The URLs in ALERT_URLS. A comma separates two only if the next one's scheme follows."""
    return [url for url in SEPARATOR.split(settings().get("ALERT_URLS", "").strip(" \t\r\n,")) if url]


def deadline() -> time | None:
    """The time of day in UTC by which a date must be complete. Raises SettingError if it is not one."""
    text = settings().get("ALERT_DEADLINE", "").strip()
    try:
        return datetime.strptime(text, "%H:%M").time() if text else None
    except ValueError:
        raise SettingError(f"ALERT_DEADLINE={text!r} is not a time of day. Expected HH:MM in UTC, such as 06:30. "
                           "Correct it in .env, and start Airflow again.") from None


def named_urls() -> Iterator[tuple[str, str]]:
    """Each URL after its name, which has no secret. Without a scheme, any part of it may be one."""
    for number, url in enumerate(urls(), 1):
        scheme = re.match(SCHEME, url)
        yield f"Alert {number} of ALERT_URLS ({scheme[0] if scheme else 'no scheme'})", url


def unknown() -> list[str]:
    """Names of the URLs that apprise does not know."""
    import apprise  # imported here: half a second, and most tasks do not need it

    with _silence():
        return [name for name, url in named_urls() if not apprise.Apprise().add(url)]


def send(title: str, body: str) -> None:
    """Send one message to each service. Errors are logged, never raised."""
    for name, url in named_urls():
        problem = _send(url, without_secrets(title), without_secrets(body))
        if problem:
            logger.error("%s was not sent: %s. To see why, run: orchestrate/airflow/.venv/bin/apprise -vv -b test URL",
                         name, problem)
        else:
            logger.info("%s is sent: %s", name, title)


def _send(url: str, title: str, body: str) -> str | None:
    """What went wrong, without the URL."""
    import apprise

    with _silence():
        try:
            services = apprise.Apprise()
            if not services.add(url):
                return "apprise does not know such a URL"
            sent = services.notify(body, title, apprise.NotifyType.FAILURE, body_format=apprise.NotifyFormat.TEXT)
            return None if sent else "the service did not accept it, or was not reached"
        except Exception as error:  # its text may hold the URL
            return type(error).__name__


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop all log records of libraries, which may hold a URL."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
