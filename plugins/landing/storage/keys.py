"""Input files in a bucket, by URLs: `az://inbox/sales.csv`, a folder, or a pattern over the keys.

Only what lies below the part of a path without wildcards is listed, level by level.
"""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Hashable, Iterator, Sequence
from fnmatch import fnmatchcase

from landing.storage.base import Object, Storage
from landing.storage.finding import MISSING, NAMES, is_csv

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)/?(.*)", re.DOTALL)


class KeyFinder:
    """Looks for keys of a bucket. It lists each prefix once, so it is for one search."""

    def __init__(self, bucket: Storage, fixed: int = 0) -> None:
        """`fixed`: how many segments all paths that are asked for have in common, from the bucket on."""
        self._bucket, self._fixed = bucket, fixed
        self._levels: dict[str, tuple[list[str], list[str]]] = {}

    def at(self, path: str) -> Object:
        return Object(self._bucket, key_of(path))

    def exists(self, path: str) -> bool:
        return self._is_file(key_of(path)) or self.is_folder(path)

    def is_folder(self, path: str) -> bool:
        return any(self._level(key_of(path)))

    def files(self, path: str) -> Iterator[Object]:
        key = key_of(path)
        if self._is_file(key):
            keys = [key]
        elif glob.has_magic(key):
            keys = sorted(self._matching(key, _literal(key)))
        elif self.is_folder(path):
            keys = [one for one in self._level(key)[0] if is_csv(_name(one))]
        else:
            keys = [key]
        return (Object(self._bucket, one) for one in keys)

    def found(self, path: str) -> bool:
        return bool(self._matching(key_of(path), self._fixed, folders=True))

    def problem(self, file: Object) -> str | None:
        listed, _ = self._levels.get(_parent(file.key), ([], []))
        return None if file.key in listed or self._is_file(file.key) else MISSING

    def identity(self, file: Object) -> Hashable:
        return file.key

    def beside(self, file: Object) -> tuple[str, list[str]]:
        segments = file.key.split("/")
        for count in range(len(segments) - 1, self._fixed - 1, -1):
            if found := sorted(itertools.chain(*self._level("/".join(segments[:count])))):
                return segments[count], [self._bucket.describe(one) for one in found[:NAMES]]
        return "", []

    def _is_file(self, key: str) -> bool:
        return bool(key) and self._bucket.size(key) is not None

    def _matching(self, key: str, fixed: int, *, folders: bool = False) -> set[str]:
        """Keys that fit a pattern; `fixed`: how many of its segments are taken as they are."""
        segments = key.split("/")
        return {*self._walk("/".join(segments[:fixed]), segments[fixed:], folders=folders)}

    def _walk(self, prefix: str, segments: Sequence[str], *, folders: bool) -> Iterator[str]:
        files, prefixes = self._level(prefix)
        first, *rest = segments
        if first == "**":
            yield from self._walk(prefix, rest or ["*"], folders=folders)
            for one in prefixes:
                if _name(one)[0] != ".":
                    yield from self._walk(one, segments, folders=folders)
        elif rest:
            for one in prefixes:
                if _fits(_name(one), first):
                    yield from self._walk(one, rest, folders=folders)
        else:
            yield from (one for one in [*files, *(prefixes if folders else ())] if _fits(_name(one), first))

    def _level(self, prefix: str) -> tuple[list[str], list[str]]:
        """Files and prefixes directly below a prefix. A key that ends in `/` stands for its folder."""
        if prefix not in self._levels:
            files, prefixes = self._bucket.files(prefix), self._bucket.prefixes(prefix)
            self._levels[prefix] = [one for one in files if _name(one)], [one for one in prefixes if _name(one)]
        return self._levels[prefix]


def key_of(url: str) -> str:
    """The key that a URL names, without `/` at its end; nothing in it is escaped."""
    return URL.match(url)[3].rstrip("/")


def _literal(key: str) -> int:
    """How many segments come before the first with a wildcard."""
    return next(number for number, one in enumerate(key.split("/")) if glob.has_magic(one))


def _fits(name: str, pattern: str) -> bool:
    """As glob has it: a wildcard does not match the point of a hidden name."""
    return fnmatchcase(name, pattern) and (name[0] != "." or pattern[0] == ".")


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _parent(key: str) -> str:
    return key.rpartition("/")[0]
