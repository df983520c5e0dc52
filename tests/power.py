"""A disk that loses its power: what a process does to files is recorded, and each moment of it looked at as a crash.

The model keeps less than any file system does. What was not synced may be lost, in any combination:

- a file's content is there once the file was synced, and torn before;
- a folder's entry (a file made, renamed into it, renamed away, removed) is as it was at the folder's last sync, or as
  anything that it was since, each entry by itself. A rename over a file leaves the old one or the new one.
"""

import builtins
import contextlib
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from landing.model.manifest import Manifest
from landing.zone.layout import KEPT, MANIFEST

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
ABSENT = "no such date"


class LostError(AssertionError):
    """After a crash a manifest would be torn, or a file that it lists be missing or torn."""


@dataclass(eq=False)
class Node:
    """A file or folder. `content` is what is surely in a file; `entries` a folder's, `maybe` those of no certainty."""

    content: bytes | None = None
    entries: dict[str, "Node"] = field(default_factory=dict)
    maybe: dict[str, list["Node | None"]] = field(default_factory=dict)

    def possible(self, name: str) -> list["Node | None"]:
        """What an entry may be after a crash; None: nothing."""
        return self.maybe.get(name) or [self.entries.get(name)]

    def put(self, name: str, node: "Node | None") -> None:
        """Change an entry."""
        self.maybe.setdefault(name, [self.entries.get(name)]).append(node)
        if node is None:
            self.entries.pop(name, None)
        else:
            self.entries[name] = node


@dataclass(frozen=True)
class Step:
    """What a process did: `to` is where it renamed to, `content` what it synced."""

    what: str
    path: Path
    to: Path | None = None
    content: bytes | None = None


class Disk:
    """A folder, and what of it is left after a crash at this moment."""

    def __init__(self, folder: Path) -> None:
        """All that is there now is safe."""
        self.folder, self.top = folder, self._safe(folder)

    def _safe(self, path: Path) -> Node:
        if path.is_dir():
            return Node(entries={one.name: self._safe(one) for one in path.iterdir()})
        return Node(path.read_bytes())

    def apply(self, step: Step) -> None:
        """Go on by a step."""
        if step.what == "fsync":
            node = self._node(step.path)
            node.content = step.content
            node.maybe.clear()
            return
        folder, name = self._node(step.path.parent), step.path.name
        if step.what == "create":
            if name not in folder.entries:
                folder.put(name, Node())
            folder.entries[name].content = None
        elif step.what == "mkdir":
            folder.put(name, Node())
        elif step.what == "rename":
            self._node(step.to.parent).put(step.to.name, self._node(step.path))
            folder.put(name, None)
        else:
            folder.put(name, None)

    def _node(self, path: Path) -> Node:
        """By its path; what another program made is there unsynced."""
        node = self.top
        for name in path.relative_to(self.folder).parts:
            if name not in node.entries:
                node.put(name, Node())
            node = node.entries[name]
        return node

    def outcomes(self, partition: Path) -> set[str]:
        """The manifests that a date may have after a crash; LostError where one could not be relied on."""
        found, folders = set(), [self.top]
        for name in partition.relative_to(self.folder).parts:
            possible = [node for folder in folders for node in folder.possible(name)]
            found |= {ABSENT} if None in possible else set()
            folders = [node for node in possible if node]
        return found.union(*(self._manifests(folder) for folder in folders))

    def _manifests(self, folder: Node) -> Iterator[str]:
        for node in folder.possible(MANIFEST):
            if node is None:
                yield ABSENT
                continue
            yield self._whole(folder, node).run_id
        for name in {*folder.entries, *folder.maybe}:
            if KEPT.fullmatch(name):
                for node in filter(None, folder.possible(name)):
                    self._whole(folder, node)

    @staticmethod
    def _whole(folder: Node, node: Node) -> Manifest:
        """A manifest, once all that it lists is seen to be safe."""
        if node.content is None:
            raise LostError(f"{MANIFEST} may be torn")
        manifest = Manifest.from_json(node.content.decode())
        for table in manifest.tables:
            for file in table.all_files:
                _require(folder, file.path, file.sha256)
        return manifest

    def maybe(self, folder: Path) -> set[str]:
        """Names that may be in a folder."""
        node = self._node(folder)
        return {name for name in {*node.entries, *node.maybe} if any(node.possible(name))}

    def surely(self, folder: Path) -> set[str]:
        """Names that are in a folder for certain."""
        node = self._node(folder)
        return {name for name in node.entries if node.possible(name) == [node.entries[name]]}


def _require(folder: Node, path: str, sha256: str) -> None:
    node = folder
    for name in path.split("/"):
        first, *others = node.possible(name)
        if others or first is None:
            raise LostError(f"{path} may be missing")
        node = first
    if node.content is None or hashlib.sha256(node.content).hexdigest() != sha256:
        raise LostError(f"{path} may be torn")


@contextlib.contextmanager
def recorded(folder: Path) -> Iterator[list[Step]]:
    """What this process does to files in a folder, in order."""
    steps: list[Step] = []

    def note(what: str, path: Path, **more: object) -> None:
        if path.is_relative_to(folder):
            steps.append(Step(what, path, **more))

    def one_path(what: str, real: Callable) -> Callable:
        def call(path: object, *arguments: object, **more: object) -> None:
            place = _path(path, more.get("dir_fd"))
            real(path, *arguments, **more)
            note(what, place)
        return call

    def renaming(real: Callable) -> Callable:
        def call(path: object, to: object) -> None:
            real(path, to)
            note("rename", _path(path), to=_path(to))
        return call

    def fsync(descriptor: int, real: Callable = os.fsync) -> None:
        real(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        note("fsync", path, content=None if path.is_dir() else path.read_bytes())

    def os_open(path: object, flags: int, *arguments: object, real: Callable = os.open, **more: object) -> int:
        descriptor = real(path, flags, *arguments, **more)
        if flags & WRITING:
            note("create", _path(path, more.get("dir_fd")))
        return descriptor

    def opening(path: object, mode: str = "r", *arguments: object, real: Callable = io.open, **more: object) -> object:
        file = real(path, mode, *arguments, **more)
        if not isinstance(path, int) and {*mode} & {*"wxa+"}:
            note("create", _path(path))
        return file

    shims = {"mkdir": one_path("mkdir", os.mkdir), "unlink": one_path("unlink", os.unlink),
             "remove": one_path("unlink", os.remove), "rmdir": one_path("rmdir", os.rmdir),
             "rename": renaming(os.rename), "replace": renaming(os.replace), "fsync": fsync, "open": os_open}
    with mock.patch.multiple(os, **shims), mock.patch.object(io, "open", opening), \
            mock.patch.object(builtins, "open", opening):
        yield steps


def _path(path: object, directory: int | None = None) -> Path:
    where = Path.cwd() if directory is None else Path(f"/proc/self/fd/{directory}").readlink()
    return where / os.fsdecode(path)
