"""A landed table with its encrypted columns in plain, for those who hold the keys. Tokens and masks stay.

It is the whole table also if its date holds only what changed. All files are verified before the first row is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO

from landing.core.commands import how_to_repair
from landing.core.errors import DamagedError
from landing.model import csv_dialect
from landing.model.manifest import Manifest
from landing.model.schema import File, Table
from landing.protection.keys import KeyRing
from landing.protection.methods import ENCRYPT, Decryption
from landing.storage import hashing
from landing.storage.base import Object
from landing.zone.chains import chain
from landing.zone.landing_zone import LandingZone
from landing.zone.merging import whole


class Reveal:
    """One table of a partition."""

    def __init__(self, zone: LandingZone, manifest: Manifest, table: Table, keys: KeyRing) -> None:
        self.zone, self.manifest, self.table, self.keys = zone, manifest, table, keys

    def rows(self, out: BinaryIO) -> int:
        """Write all rows as one file in the landing zone's dialect; returns their number.

        Raises:
            SettingError: A key is missing or another one. Nothing is written.
            DamagedError: A file is not what was landed. Nothing is written.
        """
        names = self._encrypted()
        with whole(self.zone, self.manifest, self.table) as (table, files):
            for place, file in zip(files, table.files, strict=True):
                self._verify(place, file)
            indexes = [index for index, column in enumerate(table.columns) if column.name in names]
            decrypt, count = Decryption(self.keys), 0
            out.write(csv_dialect.header(table.columns))
            for place in files:
                for row in csv_dialect.read_rows(place):
                    for index in indexes:
                        if row[index] is not None:
                            row[index] = decrypt(row[index])
                    out.write(csv_dialect.line(row))
                    count += 1
        return count

    def _encrypted(self) -> set[str]:
        """Encrypted columns, on the dates that the table stands on too. Raises SettingError if a key is missing."""
        found = {(column.name, column.protection.key, column.protection.check)
                 for link in chain(self.zone, self.manifest, self.table) for column in link.table.columns
                 if column.protection and column.protection.method == ENCRYPT}
        for _, key, check in sorted(found):
            self.keys.of(key, check)
        return {name for name, _, _ in found}

    def rejected(self, out: BinaryIO) -> int:
        """Write its rejected rows as JSON lines, with their texts in plain; returns their number. Raises as rows()."""
        decrypt, count = Decryption(self.keys), 0
        for entry in self._rejected():
            if encrypted := entry.pop("encrypted", None):
                entry["text"] = decrypt(encrypted)
            out.write((json.dumps(entry, ensure_ascii=False) + "\n").encode())
            count += 1
        return count

    def _rejected(self) -> Iterator[dict[str, str | int | None]]:
        if self.table.quarantine:
            self._verify(place := self.zone.file(self.manifest, self.table.quarantine), self.table.quarantine)
            with hashing.reader(place) as file:
                yield from map(json.loads, file)

    def _verify(self, one: Object, file: File) -> None:
        if (found := hashing.sha256(one)) != file.sha256:
            raise DamagedError(f"{one}: expected SHA-256 {file.sha256}, found {found}. Nothing of it was revealed. "
                               f"{how_to_repair(self.manifest.source, self.manifest.extracted_at)}")
