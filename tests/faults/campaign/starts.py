"""Starts of main.py: fresh processes, and warm ones that are copies of one with all modules loaded.

A warm process behaves as a fresh one from the moment on at which the modules are loaded, which is
what takes most of the time of a short run. JAX has not started its devices when it is copied.
"""

import contextlib
import itertools
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from tests import runs

SECONDS_TO_END = 60  # after a signal
_SECONDS_TO_RUN = 300
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["vasso_jax.cli.train", "vasso_jax.train", "tests.train.networks", "matplotlib.pyplot"]
)
# The server inherits it, and imports what it is to hold.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(runs.ROOT), os.environ.get("PYTHONPATH")))
)
# All programs are kept, however small, so that they are compiled once.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
_numbers = itertools.count()


class Hang(Exception):
    """A process did not end in time; it has been killed."""


class End(NamedTuple):
    """How a process ended.

    Attributes:
        status: its exit status; minus the number of the signal that killed it.
        out, err: what it wrote.
        seconds: from the last signal, or its start, to its end.
    """

    status: int
    out: str
    err: str
    seconds: float

    @property
    def errors(self):
        """The messages."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]

    @property
    def is_refusal(self):
        """Whether it ended with one message and status 2."""
        return self.status == 2 and len(self.errors) == 1 and self.err.startswith("error: ")


class Start:
    """main.py with some arguments in a process of its own.

    Attributes:
        is_fresh: whether the process has loaded all modules itself.
    """

    def __init__(self, arguments, scratch, *, fresh=False, target=None):
        """Starts it.

        Args:
            arguments: of main.py.
            scratch: folder for what it writes to its standard output and error.
            fresh: whether it is a new interpreter.
            target: what a warm process calls with the arguments in the place of main.py.
        """
        number = next(_numbers)
        self.is_fresh = fresh
        self._files = [pathlib.Path(scratch) / f"{name}{number}" for name in ("out", "err")]
        self._since = time.monotonic()
        if fresh:
            with contextlib.ExitStack() as opened:
                out, err = (opened.enter_context(path.open("wb")) for path in self._files)
                self._process = subprocess.Popen(
                    [sys.executable, str(runs.ROOT / "main.py"), *arguments],
                    cwd=runs.ROOT,
                    env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
                    stdout=out,
                    stderr=err,
                )
        else:
            for path in self._files:
                path.touch()  # it may be killed before it opens them
            files = [str(path) for path in self._files]
            self._process = CONTEXT.Process(
                target=_in_copy, args=(target or _main, arguments, files)
            )
            self._process.start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.is_running():
            self.send(signal.SIGKILL)
            self._wait(None)

    @property
    def pid(self):
        """Of the process."""
        return self._process.pid

    def is_running(self):
        """Whether it has not ended yet."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll() is None
        return self._process.is_alive()

    def send(self, number):
        """Sends a signal, from which on its end is awaited."""
        self._since = time.monotonic()
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, timeout=_SECONDS_TO_RUN):
        """Waits for it.

        Raises:
            Hang: it does not end in time.
        """
        status = self._wait(timeout)
        hangs = status is None
        if hangs:
            self.send(signal.SIGKILL)
            self._wait(None)
        texts = []
        for path in self._files:
            texts.append(path.read_text(errors="replace"))
            path.unlink()
        if hangs:
            raise Hang(f"no end after {timeout} s; it said:\n{''.join(texts)[-1500:]}")
        return End(status, *texts, time.monotonic() - self._since)

    def _wait(self, timeout):
        if isinstance(self._process, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(timeout)
            return None
        self._process.join(timeout)
        return self._process.exitcode


def _in_copy(target, arguments, files):
    for number, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), number)
    import jax

    os.chdir(runs.ROOT)
    # The environment was that of the server.
    jax.config.update("jax_num_cpu_devices", 1)
    sys.argv = ["main.py", *arguments]  # which ml_collections reads, too
    target(arguments)


def _main(arguments):
    from vasso_jax.cli.main import run

    run("train", arguments)
