"""A landed table with its encrypted columns in plain, for those who hold the keys. Tokens and masks stay.

All files are verified before the first row is written.
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
from landing.zone.landing_zone import LandingZone


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
        indexes = [index for index, column in enumerate(self.table.columns)
                   if column.protection and column.protection.method == ENCRYPT]
        for index in indexes:
            protection = self.table.columns[index].protection
            self.keys.of(protection.key, protection.check)
        objects = [self._verified(file) for file in self.table.files]
        decrypt, count = Decryption(self.keys), 0
        out.write(csv_dialect.header(self.table.columns))
        for one in objects:
            for row in csv_dialect.read_rows(one):
                for index in indexes:
                    if row[index] is not None:
                        row[index] = decrypt(row[index])
                out.write(csv_dialect.line(row))
                count += 1
        return count

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
            with hashing.reader(self._verified(self.table.quarantine)) as file:
                yield from map(json.loads, file)

    def _verified(self, file: File) -> Object:
        one = self.zone.file(self.manifest, file)
        if (found := hashing.sha256(one)) != file.sha256:
            raise DamagedError(f"{one}: expected SHA-256 {file.sha256}, found {found}. Nothing of it was revealed. "
                               f"{how_to_repair(self.manifest.source, self.manifest.extracted_at)}")
        return one
