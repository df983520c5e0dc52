"""Memory and scratch space that do not suffice are said as such: the file is not at fault."""

import re

import duckdb
import pytest
from landing.core.errors import BadFileError, SourceError
from landing.extract.csv import parsed


def test_too_little_memory_is_said_with_its_amount_the_scratch_folder_and_what_to_do(convert, monkeypatch):
    monkeypatch.setattr(parsed, "ROWS_MEMORY", 1 << 20)
    monkeypatch.setattr(parsed, "COLUMN_MEMORY", 0)
    rows = "a,b\n" + "".join(f"{number},x\n" for number in range(200_000))
    with pytest.raises(SourceError) as refused:
        convert(rows, keys=["a"])
    assert not isinstance(refused.value, BadFileError)
    assert re.search(r"0\.csv: DuckDB ran out of its 5 MB of memory and of scratch space in /.* "
                     r"\(Out of Memory Error: .*\)\. The file is not at fault\..*TMPDIR", str(refused.value))


def test_a_full_scratch_disk_is_said_likewise_and_an_error_of_reading_is_not(convert, monkeypatch):
    def failing(message):
        def survey(self, *arguments):
            raise duckdb.IOException(message.format(self._folder))
        monkeypatch.setattr(parsed.ParsedRows, "survey", survey)

    failing('IO Error: Could not write file "{}/duckdb/x.tmp": No space left on device')
    with pytest.raises(SourceError, match=r"scratch space in .*No space left on device.*The file is not at fault"):
        convert("a\n1\n")
    failing("IO Error: Could not read file")
    with pytest.raises(BadFileError, match=r"0\.csv: IO Error: Could not read file"):
        convert("a\n1\n")
