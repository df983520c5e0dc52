"""What passes through a landed file is hashed and counted, one way and the other, however it is stored."""

import gzip
import hashlib
import io

import pytest
from landing.core.errors import DamagedError
from landing.storage import compression, hashing
from landing.storage.compression import SUFFIXES
from landing.storage.hashing import RowSum
from landing.storage.local import at

TEXT = b"id,name\n" + b"".join(b"%d,row\n" % number for number in range(5000))


@pytest.mark.parametrize("suffix", SUFFIXES.values())
def test_rows_are_hashed_counted_and_shown_as_they_pass(tmp_path, suffix):
    path, shown = tmp_path / "new" / "folder" / f"a{suffix}", []
    with hashing.create(at(path), lambda chunk: shown.append(bytes(chunk))) as file:
        assert (file.readable(), file.writable()) == (False, True)
        for start in range(0, len(TEXT), 1000):
            assert file.write(TEXT[start:start + 1000]) == len(TEXT[start:start + 1000])
        assert (file.sha256, file.size) == (hashlib.sha256(TEXT).hexdigest(), len(TEXT))
    assert b"".join(shown) == TEXT
    assert compression.compressed(path.name) == (suffix != ".csv")
    shown.clear()
    assert hashing.sha256(at(path), lambda chunk: shown.append(bytes(chunk))) == hashlib.sha256(TEXT).hexdigest()
    assert b"".join(shown) == TEXT
    with hashing.reader(at(path)) as file:
        assert file.read() == TEXT
        assert (file.raw.readable(), file.raw.writable()) == (True, False)
    with pytest.raises(FileExistsError):
        hashing.create(at(path))


@pytest.mark.parametrize("suffix", SUFFIXES.values())
def test_a_file_that_cannot_be_read_is_named(tmp_path, suffix):
    with pytest.raises(DamagedError, match="none"):
        hashing.sha256(at(tmp_path / "none" / f"a{suffix}"))
    assert not [*tmp_path.iterdir()]
    path = tmp_path / f"a{suffix}"
    if suffix != ".csv":
        path.write_bytes(gzip.compress(TEXT)[:-20])
        with pytest.raises(DamagedError, match=str(path)):
            hashing.sha256(at(path))


def test_a_file_is_closed_with_its_last_bytes(tmp_path):
    path = tmp_path / "a.csv.gz"
    file = hashing.create(at(path))
    file.write(TEXT)
    file.close()
    assert file.closed
    assert gzip.decompress(path.read_bytes()) == TEXT
    rows = RowSum()
    assert rows.write(TEXT) == len(TEXT)
    assert rows.rows == 5001


class Short(io.RawIOBase):
    """A file that takes a few bytes at a time, as a disk does that is nearly full."""

    def __init__(self, path):
        self.file = open(path, "xb", buffering=0)  # noqa: SIM115

    def writable(self):
        return True

    def write(self, chunk):
        return self.file.write(bytes(chunk[:7]))


@pytest.mark.parametrize("suffix", SUFFIXES.values())
def test_a_short_write_loses_nothing(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with io.BufferedWriter(hashing.HashedFile(Short(path), path.name, writes=True)) as file:
        file.write(TEXT)
    with hashing.reader(at(path)) as file:
        assert file.read() == TEXT
