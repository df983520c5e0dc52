"""Write the lock files by which Meltano knows the plugins, from what the plugins say of themselves (`--about`).

    python plugins/locks.py    (`make locks`)

Defaults are in the descriptions only: Meltano would pass each one on as if a person had set it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
VARIANT = "landing"
PLUGINS = {"tap-postgres": "extractors", "tap-csv": "extractors", "tap-landing": "extractors", "target-csv": "loaders",
           "target-postgres": "loaders"}
# A plugin of its own, so that a load needs no tap-csv, and shares no file of Meltano's with an extract of CSV files.
RUNS = {"tap-landing": ("tap-csv", {"from_landing": True})}
# A date is loaded whole, so there is no catalog to select from.
CAPABILITIES = {"tap-landing": {"about", "batch"}}
# Not offered to Meltano: with structured logging it would show a failed discovery's messages as JSON, and CSV files are
# read whole, so a tap-csv has no state to continue from.
WITHOUT = {"structured-logging"}
WITHOUT_STATE = {"tap-csv"}
# Settings of the Singer SDK and the MeltanoLabs plugins that need no definition: what meltano.yml sets is passed on all
# the same, and Meltano looks for a value of every defined setting in each run (2 ms for one).
UNDEFINED = {
    "activate_version", "add_record_metadata", "auto_bootstrap_log_based", "batch_config", "batch_size_rows",
    "dates_as_string", "default_replication_method", "dialect+driver", "faker_config", "flattening_enabled",
    "flattening_max_depth", "flattening_max_key_length", "flattening_separator", "hard_delete",
    "interpret_content_encoding", "json_as_object", "load_method", "log_based_single_connection",
    "process_activate_version_messages", "replication_idle_exit_seconds", "replication_max_run_seconds",
    "replication_slot_name", "sanitize_null_text_characters", "stream_map_config", "stream_maps", "use_copy",
    "use_singer_decimal", "validate_records",
}
# Read by our plugins, which import the MeltanoLabs plugins only where a run needs them.
STOCK_SETTINGS = {"landing/extract/postgres/stock_settings.json": "tap_postgres.tap:TapPostgres",
                  "landing/load/stock_settings.json": "target_postgres.target:TargetPostgres"}
PLUGIN_CHECKS = {"port"}  # Meltano itself ends with a traceback where such a value is not a number
SENSITIVE = {"user", "password", "sqlalchemy_url", "ssl_client_certificate", "ssl_client_private_key",
             "ssh_tunnel.private_key", "ssh_tunnel.private_key_password"}

AIRFLOW = "orchestrate/airflow/.venv/bin/"
UTILITIES = {
    "landing": {"executable": "plugins/.venv/bin/landing"},
    "dbt": {
        "executable": "plugins/.venv/bin/landing-dbt",
        "commands": {"build": "build", "run": "run", "test": "test", "docs": "docs generate --static",
                     "freshness": "source freshness"},
    },
    "airflow": {
        "executable": f"{AIRFLOW}airflow",
        "settings": [
            {"name": "home", "env": "AIRFLOW_HOME", "value": "$MELTANO_PROJECT_ROOT/.airflow"},
            {"name": "dags_folder", "env": "AIRFLOW__CORE__DAGS_FOLDER",
             "value": "$MELTANO_PROJECT_ROOT/orchestrate/airflow/dags"},
            {"name": "load_examples", "env": "AIRFLOW__CORE__LOAD_EXAMPLES", "value": "False"},
            {"name": "executor", "env": "AIRFLOW__CORE__EXECUTOR", "value": "LocalExecutor"},
            {"name": "parallelism", "env": "AIRFLOW__CORE__PARALLELISM", "value": "8"},
            {"name": "users", "env": "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "value": "admin:admin"},
        ],
        "commands": {
            "initialize": "db migrate",
            "serve": {"executable": f"{AIRFLOW}python", "args": "orchestrate/airflow/servers.py run"},
            "workers": {"executable": f"{AIRFLOW}python", "args": "orchestrate/airflow/servers.py run workers"},
        },
    },
}


def lock_files() -> dict[Path, str]:
    """The text of each lock file, by its path."""
    definitions = [_definition(kind, name, _described(name)) for name, kind in PLUGINS.items()]
    definitions += [_definition("utilities", name, utility) for name, utility in UTILITIES.items()]
    files = {FOLDER / one["plugin_type"] / f"{one['name']}--{VARIANT}.lock": one for one in definitions}
    files |= {FOLDER / path: _stock_settings(plugin) for path, plugin in STOCK_SETTINGS.items()}
    return {path: json.dumps(content, indent=2) + "\n" for path, content in files.items()}


def _stock_settings(plugin: str) -> dict[str, Any]:
    """The settings of a MeltanoLabs plugin, from a process of its own: using a plugin adds the SDK's to them."""
    module, _, name = plugin.partition(":")
    script = f"import json; from {module} import {name}; print(json.dumps({name}.config_jsonschema))"
    return json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)  # noqa: S603


def _definition(kind: str, name: str, more: dict[str, Any]) -> dict[str, Any]:
    namespace = name.replace("-", "_")
    return {"plugin_type": kind, "name": name, "namespace": namespace, "variant": VARIANT, "label": name, **more}


def _described(name: str) -> dict[str, Any]:
    """What `--about` says of a plugin."""
    program, config = RUNS.get(name, (name, {}))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(config))
        file.flush()
        executable = Path(sys.executable).parent / f"landing-{program}"
        command = [executable, "--about", "--format=json", "--config", file.name]
        about = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)  # noqa: S603
    without = WITHOUT | ({"state"} if name in WITHOUT_STATE else set())
    return {
        "executable": f"plugins/.venv/bin/landing-{program}",
        "description": about["description"],
        "capabilities": sorted(CAPABILITIES.get(name, {*about["capabilities"]} - without)),
        "settings": [one for setting, schema in about["settings"]["properties"].items() if setting not in UNDEFINED
                     for one in _settings(setting, schema)],
    }


def _settings(name: str, schema: dict[str, Any]) -> list[dict[str, Any]]:
    """A setting as Meltano has it; those of the SSH tunnel have dots in their names."""
    if name == "ssh_tunnel":
        return [one for part, inner in schema["properties"].items() for one in _settings(f"{name}.{part}", inner)]
    kind = next(one for one in schema["type"] if one != "null")
    setting = {"name": name} | ({} if kind == "string" or name in PLUGIN_CHECKS else {"kind": kind})
    if name in SENSITIVE or schema.get("secret"):
        setting["sensitive"] = True
    default = schema.get("default")
    said = [schema.get("description"), default is not None and f"Default: {json.dumps(default)}."]
    return [setting | {"description": " ".join(filter(None, said))}]


if __name__ == "__main__":
    for path, text in lock_files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
