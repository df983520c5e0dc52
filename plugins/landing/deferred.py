"""Modules that are imported only when something of them is wanted.

The MeltanoLabs plugins import paramiko for their SSH tunnels: 0.1 s of every start, three starts a day and source, for
what few projects use.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class Deferred(ModuleType):
    """Stands for a module until its first public attribute is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # those who go through sys.modules ask for nothing but these
            raise AttributeError(name)
        del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def defer(name: str) -> None:
    """Have the next `import name` bring a stand-in."""
    sys.modules.setdefault(name, Deferred(name))
