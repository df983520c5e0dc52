"""Lists and objects among the settings of plugins, as variables have them: TAP_POSTGRES_KEYS='{"public.events": …}'.

Meltano loses keys with a dot of an object that a variable has, but passes that variable on to the plugin.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from landing.core.errors import SettingError

PLUGIN = ("MELTANO_EXTRACTOR_NAME", "MELTANO_LOADER_NAME")  # in a plugin that Meltano runs; one of them is set


def variable(plugin: str, name: str) -> str:
    """The variable of a plugin's setting."""
    return f"{plugin}_{name}".replace("-", "_").upper()


def of_variable(plugin: str, name: str, example: Any, values: Mapping[str, str]) -> Any | None:
    """A setting as its variable has it; None if that is not set.

    Args:
        plugin: Its name in meltano.yml.
        name: Of the setting.
        example: A value; others must be of its type.
        values: The environment.

    Raises:
        SettingError: The variable is not JSON of that type.
    """
    if not (text := values.get(variable(plugin, name))):
        return None
    try:
        if isinstance(found := json.loads(text), type(example)):
            return found
    except ValueError:
        pass
    kind = "object" if isinstance(example, dict) else "array"
    raise SettingError(f"{variable(plugin, name)}={text!r} is not a JSON {kind}. Expected, for example, "
                       f"{json.dumps(example)}. Nothing was changed. Correct it, and run again.")


def objects(plugin: str, config: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the plugin that this process is: those of `examples` as their variables have them, if set.

    Args:
        plugin: Its name, where Meltano does not run it under another.
        config: As Meltano passes them.
        examples: By setting, of those that are objects.

    Raises:
        SettingError: A variable is not a JSON object.
    """
    plugin = next((os.environ[one] for one in PLUGIN if os.environ.get(one)), plugin)
    found = {name: of_variable(plugin, name, example, os.environ) for name, example in examples.items()}
    return {**config, **{name: value for name, value in found.items() if value is not None}}
