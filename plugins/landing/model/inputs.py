"""The files that an extract read, for entities whose files are moved after the commit."""

from __future__ import annotations

from msgspec import Struct

from landing.model.validation import Count, Text


class Input(Struct, frozen=True, omit_defaults=True):
    """One file.

    Attributes:
        file: Where its entity's path found it: relative to the project, an absolute path, or the URL of a key.
        size: Bytes.
        version: Of its content, as its storage tells it, where it was read.
        done: Where it is once its rows are committed.
        moved: Whether it was read from there, as an earlier run of its date moved it.
    """

    file: Text
    size: Count
    version: Text
    done: Text
    moved: bool = False
