r"""Whatever is in a CSV file: it lands as an independent reading has it, or is refused by name, in bounded memory.

The independent reading is 40 lines below, a field at a time, and for what it reads Python's csv module has to agree. By
default 150 files are made up for each; CSV_CASES=100000 makes more, and CSV_SEED others.
"""

import contextlib
import csv
import encodings.aliases
import io
import json
import logging
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from landing.core.errors import BadFileError, LandingError
from landing.core.progress import Progress
from landing.extract.csv import decoded as decoded_module
from landing.extract.csv import plain
from landing.extract.csv.declaration import Declaration
from landing.extract.csv.dialect import Dialect
from landing.extract.csv.entity import CsvEntity
from landing.extract.csv.quarantine import Quarantine
from landing.extract.csv.text import CsvText
from landing.model import csv_dialect
from landing.storage.local import at

CASES = int(os.environ.get("CSV_CASES", "150"))
SEED = int(os.environ.get("CSV_SEED", "0"))
MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe\0\0": "utf-32-le", b"\0\0\xfe\xff": "utf-32-be", b"\xff\xfe": "utf-16-le",
         b"\xfe\xff": "utf-16-be"}
LIMIT = 320 << 20  # bytes of memory


def decoded(content, encoding, errors="strict"):
    mark = next((mark for mark in MARKS if content.startswith(mark)), b"")
    return content[len(mark):].decode(MARKS.get(mark, encoding), errors)


def field_of(text, at, quote, escape, edges):
    """The field that begins there, None where it is NULL, and where it ends."""
    if text[at : at + 1] != quote:
        end = edges.search(text, at).start()
        return text[at:end] or None, end
    value, at = "", at + 1
    while True:
        char, next_ = text[at : at + 1], text[at + 1 : at + 2]
        if not char:
            raise ValueError("never closed")
        if char == escape and next_ and next_ in (escape, quote):
            value, at = value + next_, at + 2
        elif char == escape != quote:
            raise ValueError("an escape of nothing")
        elif char == quote:
            if not edges.match(text, at + 1):
                raise ValueError("text behind a quote")
            return value, at + 1
        else:
            value, at = value + char, at + 1


def independently_read(content, encoding, delimiter, quote, escape, empty_lines=False):
    """Header and rows; ValueError where they are none, or have empty lines between them."""
    text = decoded(content, encoding)
    if "\0" in text:
        raise ValueError("NUL")
    edges = re.compile(f"{re.escape(delimiter)}|\r\n|\r|\n|\\Z")
    records, record, at = [], [], 0
    while at < len(text):
        value, at = field_of(text, at, quote, escape, edges)
        record.append(value)
        end = edges.match(text, at)[0]
        at += len(end)
        if end == delimiter and at < len(text):
            continue
        records.append([*record, None] if end == delimiter else record)
        record = []
    if escape == quote:
        by_csv = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote, strict=True)
        assert [one or [""] for one in by_csv] == [[value or "" for value in one] for one in records]
    width = len(records[0]) if records else 0
    while width > 1 and records[-1] == [None]:
        records.pop()
    if empty_lines and width > 1:
        records = [record for record in records if record != [None]]
    if not records or records[0] == [None] or {len(one) for one in records} != {width}:
        raise ValueError("fields")
    return records


def converted(path, folder, quarantine=None, **declared):
    """What landed, row by row."""
    folder.mkdir()
    entity = CsvEntity(Declaration("e", str(path), **declared))
    progress = Progress(logging.getLogger("test"), "e")
    entity.convert(entity.names, folder, at(folder / "landed.csv"), progress, quarantine)
    return list(csv_dialect.read_rows(at(folder / "landed.csv")))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Have these files read in several blocks: most are smaller than one. Returns what changes their size."""
    def change(size, longest):
        monkeypatch.setattr(plain, "SIZE", size)
        monkeypatch.setattr(plain, "LONGEST", longest)

    change(7, 9)
    monkeypatch.setattr(decoded_module, "PIECE", 11)
    return change


def tried(*arguments, **declared):
    """What landed, and the words with which it was refused: one of them is None."""
    try:
        return converted(*arguments, **declared), None
    except LandingError as error:
        return None, str(error)


class File:
    """A file made up: rows written in some dialect and encoding, and then, mostly, damaged."""

    ENDS = ["\n", "\n", "\r\n", "\r"]
    PIECES = ["a", "7", "é", "😀", " ", "\t", ";", "'", "\\", "\u2028", "\x1f", "\x85", "NULL", "\\.", "x" * 300]
    NOISE = ["\n", "\r", "\r\n", '"', "'", ",", ";", "\\", "\0", "\ufeff", "\n\n", '""', ' "', '" ', ',"', '",']

    def __init__(self, chance):
        self.chance = chance
        escape = chance.choice([None, None, "\\"])
        quote = chance.choice(['"', '"', "'"])
        self.declared = {"delimiter": chance.choice(",,,;\t|¦\x01 "), "quote": quote, "escape": escape or quote}
        self.encoding = chance.choice(["utf-8", "utf-8", "utf-8", "latin-1", "cp1252", "utf-16", "utf-16-be", "utf-32"])
        self.content = self._damaged(self._encoded(self._written()))
        self.blocks = chance.choice([(7, 9), (7, 60), (20, 1000)])  # size and longest row

    def settings(self):
        return {**self.declared, "encoding": self.encoding}

    def _value(self):
        text = "".join(self.chance.choices([*self.PIECES, *self.NOISE[:8]], k=self.chance.randrange(4)))
        quote, escape = self.declared["quote"], self.declared["escape"]
        if self.chance.random() < 0.5 and not re.search(rf"[\r\n\\ {quote}{self.declared['delimiter']}]", text):
            return text
        text = text.replace("\\", "\\\\") if escape == "\\" else text
        return quote + text.replace(quote, escape + quote) + quote

    def _written(self):
        width, end = self.chance.randrange(1, 4), self.chance.choice(self.ENDS)
        rows = [[f"c{n}" for n in range(width)],
                *([self._value() for _ in range(width)] for _ in range(self.chance.randrange(8)))]
        lines = [self.declared["delimiter"].join(row) for row in rows]
        for _ in range(self.chance.choice([0, 0, 0, 1, 2])):  # while it is text
            place = self.chance.randrange(len(lines))
            at = self.chance.randrange(len(lines[place]) + 1)
            cut = at + self.chance.choice([0, 0, 1, 3])
            lines[place] = lines[place][:at] + self.chance.choice([*self.NOISE, ""]) + lines[place][cut:]
        ends = [end if self.chance.random() < 0.99 else self.chance.choice(self.ENDS) for _ in lines]
        return "".join(line + end for line, end in zip(lines, ends, strict=True))

    def _encoded(self, text):
        if self.chance.random() < 0.05:
            self.encoding = "utf-8"  # as nobody declared another
        return text.encode(self.encoding, "replace")

    def _damaged(self, content):
        if self.chance.random() < 0.6 or not content:
            return content
        at = self.chance.randrange(len(content))
        kind = self.chance.choice(["cut", "flip", "put in", "leave out", "mark"])
        if kind == "cut":
            return content[:at]
        if kind == "flip":
            return content[:at] + bytes([content[at] ^ 1 << self.chance.randrange(8)]) + content[at + 1 :]
        if kind == "leave out":
            return content[:at] + content[at + 1 :]
        if kind == "mark":
            return self.chance.choice([*MARKS]) + content
        return content[:at] + bytes(self.chance.choices([0, 0x80, 0xE9, 0xFF, 0xD8, 10, 34], k=2)) + content[at:]


def test_a_made_up_file_lands_as_an_independent_reading_has_it_or_is_refused_by_name(tmp_path, small_blocks):
    chance, landed, refused = random.Random(SEED), 0, 0
    for number in range(CASES):
        file, path = File(chance), tmp_path / "in.csv"
        path.write_bytes(file.content)
        small_blocks(*file.blocks)
        about = f"CSV_SEED={SEED}, file {number}: {file.content} {file.blocks} {file.settings()}"
        try:
            expected = independently_read(file.content, file.encoding, **file.declared)
        except ValueError:
            expected = None
        found, refusal = tried(path, tmp_path / str(number), **file.settings())
        if refusal:
            refused += 1
            assert str(path) in refusal, about
        else:
            landed += 1
            assert found == expected[1:], about
    assert landed > CASES / 4, "the files are too bad to show anything"
    assert refused > CASES / 4, "the files are too good to show anything"


def test_what_is_in_quarantine_and_what_landed_are_together_the_file(tmp_path, small_blocks):
    chance, apart, landed = random.Random(SEED + 1), 0, 0
    for number in range(CASES):
        file, path, folder = File(chance), tmp_path / "in.csv", tmp_path / str(number)
        path.write_bytes(file.content)
        small_blocks(*file.blocks)
        quarantine = Quarantine(at(folder / "bad.jsonl"), 1000)
        about = f"CSV_SEED={SEED}, file {number}: {file.content} {file.blocks} {file.settings()}"
        found, refusal = tried(path, folder, quarantine, **file.settings())
        if refusal:
            assert str(path) in refusal, about
            continue
        landed += 1
        if not quarantine.close():
            assert found == independently_read(file.content, file.encoding, **file.declared)[1:], about
            continue
        apart += 1
        lines = re.findall("[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", decoded(file.content, file.encoding, "replace"))
        for one in (folder / "bad.jsonl").read_text().split("\n")[:-1]:
            bad = json.loads(one)
            height = 1 + len(re.findall("\r\n|\r|\n", bad["text"]))
            taken = slice(bad["line"] - 1, bad["line"] - 1 + height)
            if bad["text"].isascii() and "\\x" not in bad["text"]:
                assert "".join(lines[taken]).rstrip("\r\n") == bad["text"], about
            lines[taken] = [""] * height
        rest = independently_read("".join(lines).encode(), "utf-8", **file.declared, empty_lines=True)
        assert found == rest[1:], about
    assert landed > CASES / 4
    assert apart > CASES / 20


def pathological(folder):
    """Files that would fill the memory, or take for ever, if one let them: each with what becomes of it."""
    def made(name, *parts):
        with (folder / name).open("wb") as file:
            for part in parts:
                file.write(part)

    block = b"x" * (1 << 20)
    made("a header of 17 MB.csv", *[block] * 17, b",b\n1,2\n")
    made("a million columns.csv", ",".join(f"c{n}" for n in range(1_000_000)).encode(), b"\n", b"1," * 999_999, b"1\n")
    made("a million columns without names.csv", b"," * 999_999, b"\n")
    made("a million fields.csv", b"a,b\n1,2\n", b"1," * 999_999, b"1\n")
    made("a field of 15 MB.csv", b"a,b\n1,", *[block] * 15, b"\n2,3\n")
    made("a field of 4 million characters.csv", b"a,b\n1,", "😀".encode() * 4_000_000, b"\n2,3\n")
    made("a field of 15 million characters.csv", b"a,b\n1,", *["😀".encode() * (1 << 20)] * 15, b"\n2,3\n")
    made("a field of 17 MB.csv", b"a,b\n1,", *[block] * 17, b"\n")
    made("a name of 10 MB.csv", *[block] * 10, b",b\n1,2\n")
    made("a quote never closed.csv", b'a,b\n1,2\n1,"', *[b"x" * 99 + b"\n"] * 200_000)
    made("a hundred thousand empty lines.csv", b"a,b\n1,2", b"\n" * 100_000)
    made("a million NULs.csv", b"a,b\n1,2\n", b"\0" * 1_000_000)
    made("twenty thousand bad rows.csv", b"a,b\n1,2\n", *[b"x" * 49 + b"\n"] * 20_000)
    made("a hundred thousand bad bytes.csv", b"a,b\n1,2\n", b"\xff" * 100_000, b"\n")
    made("a million quotes.csv", b"a,b\n1,2\n", b'"' * 1_000_001, b"\n")
    made("a bad row of 15 MB.csv", b"a,b\n1,2\n", *[block] * 15, b"\n")
    made("a million escapes.csv", b'a,b\n"\\"x",2\n"', rb'\"' * 1_000_000, b'",2\n')
    made("nothing.csv")
    made("a header.csv", b"a,b")
    made("random bytes.csv", random.Random(SEED).randbytes(1 << 20))
    with (folder / "64 GB of nothing.csv").open("wb") as file:
        file.truncate(1 << 36)


def test_no_file_takes_more_than_bounded_memory_or_ends_in_a_traceback(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    pathological(folder)
    environment = {**os.environ, "MELTANO_PROJECT_ROOT": str(tmp_path)}
    child = subprocess.run([sys.executable, __file__, folder], env=environment, capture_output=True, text=True,
                           timeout=300)
    assert child.returncode == 0, child.stderr
    said = json.loads(child.stdout)
    assert said["memory"] < LIMIT
    accepted = {"a field of 15 MB.csv", "a field of 4 million characters.csv", "a hundred thousand empty lines.csv",
                "a header.csv", "a million escapes.csv"}
    put_aside = {"a million fields.csv", "a million NULs.csv", "a million quotes.csv", "a bad row of 15 MB.csv",
                 "twenty thousand bad rows.csv", "a hundred thousand bad bytes.csv"}
    for case, words in said["found"].items():
        name, mode = case.split("|")
        lands = name in accepted or (mode == "quarantine" and name in put_aside)
        assert (words is None) == lands, (case, words)
        assert lands or (str(folder / name) in words and len(words) < 2000)


def convert_all(folder):
    """As a process of its own: what became of each file, and the memory that it took."""
    found = {}
    for path in sorted(folder.iterdir()):
        for mode in ("fail", "quarantine"):
            scratch = folder.parent / f"{mode} {path.name}"
            quarantine = Quarantine(at(scratch / "bad.jsonl"), 10_000_000) if mode == "quarantine" else None
            declared = {"escape": "\\"} if "escapes" in path.name else {}
            found[f"{path.name}|{mode}"] = tried(path, scratch, quarantine, **declared)[1]
    # Not ru_maxrss, which begins with that of whoever has started this process.
    memory = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10
    print(json.dumps({"memory": memory, "found": found}))


def test_a_file_that_goes_or_changes_behind_its_header_is_refused(tmp_path):
    path, progress = tmp_path / "in.csv", Progress(logging.getLogger("test"), "e")
    for change in (path.unlink, lambda: path.write_text("b,a\n2,1\n"), lambda: path.write_text("")):
        path.write_text("a,b\n1,2\n")
        os.utime(path, (0, 0))
        entity = CsvEntity(Declaration("e", str(path)))
        change()
        with pytest.raises(BadFileError, match=re.escape(str(path))):
            entity.convert(entity.names, tmp_path, at(tmp_path / "landed.csv"), progress)
        (tmp_path / "landed.csv").unlink(missing_ok=True)


def test_every_encoding_that_python_knows_reads_a_file_or_refuses_it(tmp_path):
    path, dialect_ = tmp_path / "in.csv", Dialect(",", '"', '"')
    known = {*encodings.aliases.aliases.values(), "idna", "punycode", "unicode_escape", "raw_unicode_escape",
             "utf_8_sig", "undefined", "a\0b"}
    for content in (b"a,b\n1,x\n", b"a,b\n1,\\ud800\n", b"a,b\n1,\xff\x80\n", b"a,b\n1,+2AA-\n"):
        path.write_bytes(content)
        for encoding in known:
            with contextlib.suppress(LandingError):
                declaration = Declaration("e", str(path), encoding=encoding)
                for record in CsvText(at(path), declaration.encoding).rows(dialect_):
                    "".join(record).encode()


@pytest.fixture
def places(project):
    """What a path may lead to that is no file, and yet does not hold anybody up."""
    extract = project.folder / "extract"
    os.mkfifo(extract / "fifo.csv")
    (extract / "folder.csv").mkdir()
    (extract / "loop.csv").symlink_to("loop.csv")
    (extract / "deep").mkdir()
    project.csv("deep/e.csv", "a\n1\n")
    (extract / "deep" / "above").symlink_to(extract / "deep")
    (extract / "folder of a fifo").mkdir()
    os.mkfifo(extract / "folder of a fifo" / "in.csv")
    project.csv("million.csv", ",".join(f"c{n}" for n in range(1_000_000)) + "\n")
    return extract


def test_what_is_no_file_is_refused_by_name_and_never_waited_for(project, places):
    for path, named, reason in [
        ("fifo.csv", "fifo.csv", "is not a regular file"), ("folder of a fifo", "in.csv", "is not a regular file"),
        ("*.csv", ".csv", "is not a regular file"), ("folder.csv", "folder.csv", "is a folder without *.csv files"),
        ("loop.csv", "loop.csv", "does not exist"), ("deep/**/*.csv", "e.csv", "is the same file as"),
        ("x" * 300, "xxx", "cannot be read"), ("a\0b", "a", "contains a NUL character"),
        ("million.csv", "million.csv", "1,000,000 columns; PostgreSQL's limit is 1,600"),
    ]:
        with pytest.raises(LandingError) as refused:
            CsvEntity(Declaration("e", str(places / path)))
        assert reason in str(refused.value)
        assert named in str(refused.value)
    for path in ("fifo.csv", "million.csv"):
        tap = project.tap_csv({"entity": "e", "path": f"extract/{path}"})
        result = project._run(tap, False, {"MELTANO_PROJECT_ROOT": str(project.folder)})
        assert result.returncode == 1
        assert str(places / path) in result.text
        assert "Traceback" not in result.text


if __name__ == "__main__":
    convert_all(Path(sys.argv[1]))
