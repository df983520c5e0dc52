"""What our plugins say to each other in Singer's own messages.

SCHEMA carries `x-landing` beside `properties`: which table of which source this is, what it refers to, the file of its
bad rows where it has some and, when it comes out of the landing zone, of which date and run.

BATCH has the encoding `csv`: files in the one dialect (dialect.py).

STATE, the last one, carries `landing`: each stream with its rows, and bytes and SHA-256 of its files. A target sees
only the end of its input when a tap dies, and cannot tell it from success; with this message it can. No proof, no
commit.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
from typing import Any

import singer_sdk
from singer_sdk import Tap, Target

from landing.core.errors import printable, reported
from landing.core.settings import exposed_env, keep_private
from landing.singer import meltano_files

NOTHING = contextlib.nullcontext()
SDK = os.path.join(os.path.dirname(singer_sdk.__file__), "")


class SdkLogFilter(logging.Filter):
    """Leaves out the SDK's routine (INFO), several lines a table, so that what counts can be seen.

    No name of a table can make a line of its own.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.pathname.startswith(SDK):
            return record.levelno != logging.INFO
        record.msg, record.args = printable(record.getMessage()), ()
        return True


def run(plugin: type[Tap | Target], around: contextlib.AbstractContextManager = NOTHING) -> None:
    """Run a plugin's command line, inside of `around`. Errors end it in a sentence, not in a traceback."""
    keep_private(sys.argv)
    meltano_files.take_logging()
    command = plugin.cli  # sets up logging
    for handler in logging.getLogger().handlers:
        handler.addFilter(SdkLogFilter())
    if issubclass(plugin, Target) and (exposed := exposed_env()):  # a target, to say it once in a run
        logging.getLogger(plugin.name).warning("%s", exposed)
    try:
        with reported(logging.getLogger(plugin.name)), around:
            meltano_files.take(sys.argv)
            command()
    except SystemExit as end:
        _end(end.code)


def _end(status: Any) -> None:
    """End without taking down each of a thousand modules, which takes 0.1 s in every start of a plugin."""
    atexit._run_exitfuncs()
    status = status if isinstance(status, int) else int(status is not None)
    for output in (sys.stdout, sys.stderr):
        try:
            output.flush()
        except OSError:
            status = status or 1
    os._exit(status)
