"""Project root, landing root, and settings of the environment and .env."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from landing.core.errors import SettingError

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
BUCKET = re.compile(r"(s3|gs|az)://([^/?#\s]+)(?:/([^?#]*))?")


def root() -> Path:
    """The Meltano project's directory: MELTANO_PROJECT_ROOT, which Meltano sets, else the working directory."""
    return Path(os.environ.get("MELTANO_PROJECT_ROOT") or Path.cwd()).resolve()


def landing_root(configured: str | None = None) -> Path | str:
    """The landing zone's place: the setting, else LANDING_ROOT, else `output`. Raises SettingError as place() does."""
    return place(configured or os.environ.get("LANDING_ROOT") or "output", "LANDING_ROOT=")


def place(text: str, given_as: str) -> Path | str:
    """A folder, relative to the project, or the URL of a bucket and a prefix.

    Args:
        text: What a person gave.
        given_as: How, for messages: `LANDING_ROOT=`.

    Raises:
        SettingError: The value is another URL, or `~` names an unknown home directory.
    """
    if BUCKET.fullmatch(text):
        return text
    if SCHEME.match(text):
        raise SettingError(f"{given_as}{text!r} is a URL that cannot be used. Expected a folder such as `output`, "
                           "or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX. Correct it, and run "
                           "again.")
    try:
        return root() / Path(text).expanduser()
    except RuntimeError:  # no such user, or a user without a home
        raise SettingError(f"{given_as}{text!r}: the home directory is unknown. Give an absolute path, and run "
                           "again.") from None


def configured_root() -> Path | str:
    """The place that LANDING_ROOT names, in the environment or in the project's .env."""
    return landing_root(settings().get("LANDING_ROOT"))


def results_folder() -> Path:
    """The local folder for what people open: the landing zone's or, if that is in a store, the project's `output`."""
    place = configured_root()
    return place if isinstance(place, Path) else root() / "output"


def settings() -> dict[str, str]:
    """The environment, over the project's .env."""
    from dotenv import dotenv_values  # imported here: plugins get all settings from Meltano

    return {key: value or "" for key, value in dotenv_values(root() / ".env").items()} | os.environ


def keep_private(arguments: Sequence[str]) -> None:
    """Restrict access to files that this process writes, and to its `--config` file.

    Meltano writes that file, passwords included, into a world-readable directory, and leaves it there after a kill.
    """
    os.umask(os.umask(0o077) | 0o007)
    for path in map(Path, arguments):
        if path.parent.parent.name == "run" and path.name.endswith(".config.json") and path.is_file():
            path.parent.chmod(0o700)


def exposed_env() -> str | None:
    """A warning if other users of this machine can read the passwords in .env."""
    return exposed(root() / ".env", "passwords")


def exposed(path: Path, what: str) -> str | None:
    """A warning if other users of this machine can read a file that contains `what`."""
    reachable = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
    if reachable and path.is_file() and path.stat().st_mode & stat.S_IROTH:
        return f"{path} contains {what}, and every user of this machine can read it. Run: chmod 600 {path}"
    return None


def flag(variable: str) -> bool:
    """Whether a boolean variable such as REEXTRACT is set. Raises SettingError for an unknown value."""
    text = os.environ.get(variable, "").strip().lower()
    if text not in {"", "0", "1", "false", "no", "true", "yes"}:
        raise SettingError(f"{variable}={text!r} is neither true nor false. Set {variable}=true or unset it, and "
                           "run again.")
    return text in {"1", "true", "yes"}
