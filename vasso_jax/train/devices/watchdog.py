"""Ends a run in which nothing moves on any more, and says where it stands."""

import faulthandler
import math
import os
import sys
import threading

from vasso_jax.train.errors import RESUMABLE

_TICK = 0.5  # seconds


class Watchdog:
    """Inside this context, something has to move on within `timeout` seconds.

    If nothing does, such as a step that waits for a device or another host for ever, the stacks of
    all threads and one message are printed, and the process ends with the status `RESUMABLE`: what
    hangs in a library cannot be interrupted. Time in which the whole process was stopped does not
    count.
    """

    def __init__(self, timeout: float):
        """`timeout`: in seconds; 0: there is no limit."""
        self._ticks = math.ceil(timeout / _TICK)
        self._timeout = timeout
        self._idle = 0
        self._doing = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if self._ticks:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()

    def moved_on(self, doing: str) -> None:
        """Tells what begins now, such as "step 12"."""
        self._doing = doing
        self._idle = 0

    def _watch(self) -> None:
        # Ticks, not a clock: after Ctrl-Z or a suspended machine, a clock has jumped.
        while not self._ended.wait(_TICK):
            self._idle += 1
            if self._idle >= self._ticks:
                # Not sys.stderr, which goes through the progress bar.
                faulthandler.dump_traceback(file=2, all_threads=True)
                print(
                    f"error: {self._doing} has not ended within stall_timeout={self._timeout:g} "
                    "seconds; above is where each thread stands. Run the same command again to "
                    "resume at the last checkpoint, with a longer stall_timeout if it was only "
                    "slow.",
                    file=sys.__stderr__,
                    flush=True,
                )
                os._exit(RESUMABLE)
