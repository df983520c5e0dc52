"""The state machine for hours: `make soak ARGS="--minutes 60 --jobs 2 --seed 7"`.

Each job has a server of its own and takes one seed after the other; a failure prints its seed and its steps, and
`--seed N --rounds 1` runs it again. With `--store fakes3` the landing zone is in an object store.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import hypothesis
import machine
import steps
import stores
import warm
from conftest import running
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from servers import Server

EXAMPLES = 15  # of a seed


def soak(first: int, arguments: argparse.Namespace, server: Server) -> int:
    """Rounds of one seed each; how many failed."""
    begun, failed = time.monotonic(), 0
    phases = [Phase.generate, *([Phase.shrink] if arguments.shrink else [])]
    profile = settings(max_examples=EXAMPLES, stateful_step_count=arguments.steps, deadline=None, database=None,
                       phases=phases, suppress_health_check=[*HealthCheck], print_blob=False,
                       verbosity=Verbosity.normal)
    machine.Machine.server = server
    for number in range(first, sys.maxsize, arguments.jobs):
        try:
            run_state_machine_as_test(seed(number)(machine.Machine), settings=profile)
        except Exception as error:
            failed += 1
            print(f"FAILED seed {number}")
            traceback.print_exc(limit=-4 if arguments.brief else None, chain=False, file=sys.stdout)
            if isinstance(error, hypothesis.errors.Flaky):
                print("At first:", *steps.failures[:1], sep="\n")
            if failed >= arguments.failures:
                break
        seconds = time.monotonic() - begun
        done = steps.counts.total()
        print(f"seed {number}: {done} steps, {done / seconds:.1f} a second, {failed} failed", flush=True)
        if seconds > arguments.minutes * 60 or (arguments.rounds and (number - first) // arguments.jobs + 1 >=
                                                arguments.rounds):
            break
    for counts in (steps.counts, steps.outcomes):
        print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())), flush=True)
    return failed


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31), help="the first one")
    parser.add_argument("--rounds", type=int, help="seeds for each job; unset: until the time is over")
    parser.add_argument("--steps", type=int, default=40, help="of an example; a round has 15 examples")
    parser.add_argument("--store", choices=stores.SOUND, help="the landing zone's place, instead of a folder")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--failures", type=int, default=1, help="end a job after so many")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false", help="report a failure as it came")
    parser.add_argument("--brief", action="store_true", help="short tracebacks")
    parser.add_argument("--job", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job is None:
        print(f"--seed {arguments.seed}", flush=True)
        own = [*sys.argv[1:], "--seed", str(arguments.seed)]
        jobs = [subprocess.Popen([sys.executable, __file__, *own, "--job", str(number)])
                for number in range(arguments.jobs)]
        sys.exit(max(job.wait() for job in jobs))
    hypothesis.configuration.set_hypothesis_home_dir(tempfile.gettempdir())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with contextlib.closing(warm.Server()), running() as server, contextlib.ExitStack() as stack:
            if arguments.store:
                machine.Machine.store = store = stores.KINDS[arguments.store]()
                stack.callback(store.stop)
            failed = soak(arguments.seed + arguments.job, arguments, server)
    finally:
        print(f"{steps.counts.total()} steps: {dict(steps.outcomes)}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
