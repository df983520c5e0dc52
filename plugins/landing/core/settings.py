"""What the project and its environment say: declared sources, dates, the landing root, the commands to run next."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from landing.core.errors import SettingError

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


def root() -> Path:
    """The Meltano project's folder (Meltano tells its plugins), else the working directory."""
    return Path(os.environ.get("MELTANO_PROJECT_ROOT") or Path.cwd()).resolve()


def landing_root(configured: str | None = None) -> Path:
    """Folder of the landing zone: the setting, else LANDING_ROOT, else `output`; relative to the project.

    `~` is a home folder. Raises SettingError for a URL, which as a path would be a folder of that name.
    """
    text = configured or os.environ.get("LANDING_ROOT") or "output"
    if SCHEME.match(text):
        raise SettingError(f"LANDING_ROOT={text!r} is a URL, and a landing zone is a folder. Expected a path such as "
                           "`output` or `~/landing`. Nothing was done; correct it, and run again.")
    try:
        return root() / Path(text).expanduser()
    except RuntimeError:  # no such user, or one without a home
        raise SettingError(f"LANDING_ROOT={text!r}: there is no such home folder. Give the whole path, and run "
                           "again.") from None


def settings() -> dict[str, str]:
    """What the project's .env sets, and over it the environment."""
    from dotenv import dotenv_values  # here: plugins get all of it from Meltano

    return {key: value or "" for key, value in dotenv_values(root() / ".env").items()} | os.environ


def keep_private(arguments: Sequence[str]) -> None:
    """Withhold what this process writes from everybody else on the machine, and the settings that it was given.

    Meltano writes them, passwords included, into a run folder of the plugin that all may read; after a kill they stay.
    """
    os.umask(os.umask(0o077) | 0o007)
    for path in map(Path, arguments):
        if path.parent.parent.name == "run" and path.name.endswith(".config.json") and path.is_file():
            path.parent.chmod(0o700)


def exposed_env() -> str | None:
    """What to say, and to do, where others on this machine can read the passwords in .env."""
    path = root() / ".env"
    ways = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
    if ways and path.is_file() and path.stat().st_mode & stat.S_IROTH:
        return f"{path} has passwords in it, and everybody on this machine can read it. Run: chmod 600 {path}"
    return None


def flag(variable: str) -> bool:
    """Whether a yes/no variable such as REEXTRACT is switched on; unknown words are refused."""
    text = os.environ.get(variable, "").strip().lower()
    if text not in {"", "0", "1", "false", "no", "true", "yes"}:
        raise SettingError(f"{variable}={text!r} is neither true nor false. Run again with {variable}=true, or unset.")
    return text in {"1", "true", "yes"}
