"""`landing key`: a new key for protected columns."""

from __future__ import annotations

from pathlib import Path

import click

from landing.cli.options import answered, logger
from landing.core.errors import SettingError
from landing.core.settings import keep_private
from landing.protection.keys import KeyRing, new_entry
from landing.status import files


@click.command(short_help="Make a key for protected columns.")
@click.argument("id_", metavar="ID")
@click.option("--to", "path", type=click.Path(path_type=Path), metavar="FILE",
              help="Put it first in this file, which only its owner can read. Default: print it.")
def key(id_: str, path: Path | None) -> None:
    """Make a random key, as an entry of PROTECTION_KEYS or of the file that PROTECTION_KEYS_FILE names.

    The key with the ID `token` makes tokens: as long as it stays, equal values have equal tokens. Of all others the
    first one encrypts. To rotate, make a key with a new ID, and keep the old ones: they reveal what they encrypted.
    """
    with answered(False):
        entry = new_entry(id_)
        if path is None:
            click.echo(entry)
            return
        keep_private([])
        before = path.read_text("utf-8") if path.exists() else ""
        if id_ in KeyRing.of_file(before, str(path)):
            raise SettingError(f"{path} has a key {id_!r} already: without it nobody can reveal what it has encrypted. "
                               "Give another id.")
        files.replace(path, f"{entry}\n{before}", mode=0o600)
        logger.info("%s has the new key %s.", path, id_)
