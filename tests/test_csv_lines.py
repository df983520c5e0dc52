"""A row that a type or a rule rejects is quarantined as it came, with its line; so is the line of a row that landed.

The files are made up, row by row: by default 40 sets of files. CSV_CASES=100000 makes more, and CSV_SEED others.
"""

import json
import logging
import os
import random

from landing.core.progress import Progress
from landing.extract.csv import plain
from landing.extract.csv.declaration import Declaration
from landing.extract.csv.entity import CsvEntity
from landing.extract.csv.quarantine import Quarantine
from landing.model import csv_dialect
from landing.storage.local import at

CASES = int(os.environ.get("CSV_CASES", "40"))
SEED = int(os.environ.get("CSV_SEED", "0"))
ENCODINGS = ["utf-8", "utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-be"]
NUMBERS = ["1", "22", " 4 ", "-7", "+8", "007", "x", "1.5", "1 2"]
TEXTS = ["a", "", "bé", "\x85", "\x1f", " ", "'", "NULL", "long " * 9, "c,d", "e;f", "g\nh", 'i"j', "", "''", '""']


class Files:
    """Files of one entity with the columns n and t, in whatever order, and where each row begins."""

    def __init__(self, chance, folder):
        folder.mkdir()
        self.declared = {"delimiter": chance.choice(",;\t"), "quote": chance.choice("\"'"),
                         "encoding": chance.choice(ENCODINGS)}
        self.end = chance.choice(["\n", "\n", "\r\n"])
        self.quoted = chance.choice([0, 0.03, 0.5])  # how many fields
        self.rows = []  # file, line, raw text, n, t
        for name in [f"{number}.csv" for number in range(chance.choice([1, 1, 1, 2, 3]))]:
            self._write(chance, folder / name)

    def _write(self, chance, path):
        order = chance.choice(["nt", "nt", "tn"])
        text, line = self.declared["delimiter"].join(order) + self.end, 2
        for _ in range(chance.randrange(1, 25)):
            n, t = chance.choice(NUMBERS), chance.choice(TEXTS)
            fields = {"n": self._field(chance, n), "t": self._field(chance, t)}
            raw = self.declared["delimiter"].join(fields[name] for name in order)
            self.rows.append((path, line, raw, n, t if t or fields["t"] else None))
            text += raw + self.end
            line += 1 + raw.count("\n")
        if chance.random() < 0.2:
            text = text.removesuffix(self.end)
        path.write_bytes(text.encode(self.declared["encoding"].removesuffix("-sig")))
        if self.declared["encoding"] == "utf-8-sig":
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    def _field(self, chance, text):
        quote = self.declared["quote"]
        if any(char in text for char in [self.declared["delimiter"], quote, "\n"]) or chance.random() < self.quoted:
            return quote + text.replace(quote, 2 * quote) + quote
        return text

    def expected(self):
        """Rows that land, and those that are rejected: each with the row that has its number first, if that is why."""
        landed, rejected, firsts = [], [], {}
        for row in self.rows:
            if (n := row[3]) in ("x", "1.5", "1 2"):
                rejected.append((row, None))
            elif (first := firsts.setdefault(int(n), row)) is not row:
                rejected.append((row, first))
            else:
                landed.append(row)
        return landed, rejected


def converted(files, folder, scratch):
    """The rows that landed, and the entries of the quarantine."""
    scratch.mkdir()
    entity = CsvEntity(Declaration("e", str(folder), metadata=True, columns={"n": {"type": "integer", "unique": True}},
                                   **files.declared | {"encoding": files.declared["encoding"].removesuffix("-sig")}))
    quarantine = Quarantine(at(scratch / "bad.jsonl"), 1000)
    entity.convert(entity.names, scratch, at(scratch / "landed.csv"), Progress(logging.getLogger("test"), "e"),
                   quarantine)
    rows = [dict(zip(entity.names, row, strict=True)) for row in csv_dialect.read_rows(at(scratch / "landed.csv"))]
    texts = (scratch / "bad.jsonl").read_text().split("\n")[:-1] if quarantine.close() else []
    return rows, [json.loads(text) for text in texts]


def named(first, files):
    """How a message names the first row of a value."""
    if first is None:
        return ""
    path, line, *_ = first
    return f"line {line}" + (f" of {path}" if len({row[0] for row in files.rows}) > 1 else "")


def test_a_rejected_row_is_quarantined_as_it_came_with_its_line(tmp_path, monkeypatch):
    chance, landed_rows, rejected_rows = random.Random(SEED), 0, 0
    for number in range(CASES):
        folder = tmp_path / f"{number} in"
        files = Files(chance, folder)
        landed, rejected = files.expected()
        if not landed:
            continue
        about = f"CSV_SEED={SEED}, set {number}: {files.declared}, {[row[2] for row in files.rows]}"
        monkeypatch.setattr(plain, "SIZE", chance.choice([7, 30, 200]))  # characters of a block
        monkeypatch.setattr(plain, "LONGEST", chance.choice([40, 1000]))
        rows, bad = converted(files, folder, tmp_path / str(number))
        assert [(one["_source_file"], one["_source_row"], one["n"], one["t"]) for one in rows] == [
            (str(path), str(line), n, t) for path, line, _, n, t in landed], about
        assert sorted((one["file"], one["line"], one["text"], one["reason"].partition(", first in ")[2])
                      for one in bad) == sorted((str(path), line, raw, named(first, files))
                                                for (path, line, raw, _, _), first in rejected), about
        landed_rows, rejected_rows = landed_rows + len(landed), rejected_rows + len(rejected)
    assert landed_rows > CASES
    assert rejected_rows > CASES
