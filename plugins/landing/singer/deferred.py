"""Modules that are imported only when something of them is wanted.

The MeltanoLabs plugins import paramiko for their SSH tunnels: 0.1 s of every start, three starts a day and source, for
what few projects use.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


class Deferred(ModuleType):
    """Imports the module when its first public attribute is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # code that walks through sys.modules asks for nothing but these
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def deferred(name: str) -> Iterator[None]:
    """Modules that are imported in this block get a stand-in by `import name`; afterwards it is the real one again."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = Deferred(name)
    try:
        yield
    finally:
        if isinstance(sys.modules.get(name), Deferred):
            del sys.modules[name]
