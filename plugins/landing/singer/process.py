"""A plugin's process, from its command line to its exit status."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import warnings

from singer_sdk import Tap, Target

from landing.core.errors import printable
from landing.core.reporting import reported
from landing.core.settings import exposed_env, keep_private
from landing.singer import meltano_files

NOTHING = contextlib.nullcontext()


class OneLine(logging.Filter):
    """Escapes control characters, so that no table's name can start a line of its own in the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), ()
        return True


def run(plugin: type[Tap | Target], around: contextlib.AbstractContextManager = NOTHING) -> None:
    """Run a plugin's command line inside the context `around`. Errors are logged as a sentence, without traceback."""
    keep_private(sys.argv)
    warnings.simplefilter("ignore", ResourceWarning)  # of the SDK, which would be a failed run's last words
    meltano_files.copy_logging()
    command = plugin.cli  # sets up logging
    _quieten(plugin.name, "singer_sdk")
    for handler in logging.getLogger().handlers:
        handler.addFilter(OneLine())
    if issubclass(plugin, Target) and (exposed := exposed_env()):  # of the target only, so that a run logs it once
        logging.getLogger(plugin.name).warning("%s", exposed)
    try:
        with reported(logging.getLogger(plugin.name)), around:
            meltano_files.copy_files(sys.argv)
            command()
    finally:
        _end()


def _quieten(*names: str) -> None:
    """Drop the SDK's INFO records, several lines a table; ours go to loggers below `landing`."""
    for logger in map(logging.getLogger, names):
        if logger.getEffectiveLevel() == logging.INFO:
            logger.setLevel(logging.WARNING)


def _end() -> None:
    """Prepare for the interpreter's exit."""
    try:
        sys.stdout.flush()
    except OSError:  # reported already; the interpreter would try again, and exit with 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if "duckdb" not in sys.modules:  # its bindings print what is not collected
        gc.freeze()  # saves 0.11 s of CPU: no collection of a thousand modules
