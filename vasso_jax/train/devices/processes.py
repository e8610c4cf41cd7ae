"""Several processes of one run: joining, agreeing, and being told to stop.

With one process, everything here is plain. With several (one per host or GPU), every process must
call the functions that agree on something, and in the same order.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from vasso_jax.train.errors import RESUMABLE, LostProcess, Stopped, UsageError

_T = TypeVar("_T")

# A process that has not been heard of for so long is taken for dead, and all others are ended.
_HEARTBEAT_SECONDS = 20


def join_cluster() -> None:
    """Finds the other processes through Slurm, Open MPI, a TPU pod or Kubernetes.

    Raises:
        LostProcess: the first process has no address yet.
        ValueError: there is no such cluster.
    """
    if jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError) as error:
        # Under Kubernetes, after half a minute. If it has one and does not answer within five
        # minutes, JAX ends the process itself.
        if isinstance(error.__cause__, socket.gaierror):
            raise LostProcess(
                f"the first process of this run cannot be found ({error.__cause__}): see whether "
                "it has started, then run the same command again"
            ) from error
        raise ValueError(
            f"distributed=True, but this process could not join a cluster ({error}): start one "
            "process per GPU under Slurm or Open MPI, one per host on a TPU pod or under "
            "Kubernetes; or leave the field out on a single machine"
        ) from error


def index() -> int:
    """The number of this process, from 0 on."""
    return jax.process_index()


def joined() -> bool:
    """Whether this process belongs to a cluster; True also before JAX has found its devices."""
    return jax.distributed.is_initialized()


def count() -> int:
    """How many processes the run has."""
    return jax.process_count()


def several() -> bool:
    """Whether the run has more than one process."""
    return count() > 1


def is_first() -> bool:
    """Whether this is the process that writes the run folder and talks to the user."""
    return index() == 0


def gather(number: int) -> list[int]:
    """The number (below 2^31) of every process; all must call this together."""
    if not several():
        return [number]
    return multihost_utils.process_allgather(np.int32(number)).ravel().tolist()


def on_first(action: Callable[[], object]) -> None:
    """Runs `action` on the first process only, and stops all of them if it fails.

    Raises:
        UsageError: the action raised a ValueError or an OSError.
    """
    failure = None
    if is_first():
        try:
            action()
        except (ValueError, OSError) as error:
            failure = error
    if several():
        failed = multihost_utils.broadcast_one_to_all(np.bool_(failure is not None))
        if failed and not failure:
            raise UsageError("the first process could not set the run up; see its message")
    if failure:
        raise UsageError(str(failure)) from failure


def on_all(make: Callable[[], tuple[_T, str]]) -> _T:
    """Makes something on every process, and stops all of them if that fails on one.

    Args:
        make: returns the thing and a text that must be the same on all processes.

    Raises:
        UsageError: `make` raised a ValueError or an OSError somewhere, or the texts differ.
    """
    made = failure = None
    try:
        made, text = make()
        seen = zlib.crc32(text.encode()) & 0x7FFFFFFF  # JAX has 32 bits, and -1 means none
    except (ValueError, OSError) as error:
        failure, seen = error, -1
    all_seen = gather(seen)
    if failure:
        raise UsageError(str(failure)) from failure
    assert made is not None
    if -1 in all_seen:
        raise UsageError("another process could not set the run up; see its message")
    if len({*all_seen}) > 1:
        raise UsageError(
            "the hosts see different data sets: give all of them the same data.dir, with the same "
            "content"
        )
    return made


@contextlib.contextmanager
def leaving_the_lost() -> Iterator[None]:
    """Ends this process at once, where another process of the run cannot be reached any more.

    An ordinary end would wait for that one: at its exit, and for its part of each checkpoint.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, LostProcess) as error:
        text = str(error)
        if not several() or _is_of_the_program(text):
            raise
        if not isinstance(error, LostProcess):
            reason = text.partition("\n")[0][:300]
            text = (
                f"another process of this run has died or does not answer ({reason}): see its "
                "message, then run the same command again to resume at the last checkpoint"
            )
        print(f"error: {text}", file=sys.__stderr__, flush=True)
        os._exit(RESUMABLE)


def _is_of_the_program(text: str) -> bool:
    """Whether an error of JAX is one that would come again, with all processes there."""
    return "RESOURCE_EXHAUSTED" in text or text.startswith(("INVALID_ARGUMENT", "UNIMPLEMENTED"))


class StopRequests:
    """Inside this context SIGINT and SIGTERM no longer end the process; `arrived` tells of them.

    These are Ctrl-C, and what a scheduler sends before it takes a machine away. A second signal of
    the same number has its usual effect again. With several processes SIGINT always has it, and
    SIGTERM is left to JAX's coordination service, which makes all of them agree on the step.
    Outside of the main thread, where Python can handle no signals, they keep their usual effect.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous = {}

    def __enter__(self) -> "StopRequests":
        if not several() and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def arrived(self, step: int) -> bool:
        """Whether to save and stop after `step`; call it at every step, on every process."""
        if several() and multihost_utils.reached_preemption_sync_point(step):
            self.signal = signal.SIGTERM
        return self.signal is not None

    def end_if_told(self, step: int, total_steps: int) -> None:
        """Raises Stopped after `step`, of which everything is saved, if a signal has arrived."""
        if self.signal:
            raise Stopped(step, total_steps, self.signal)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = signal.Signals(number)
        signal.signal(number, self._previous.pop(number))

    def _restore(self) -> None:
        for number, handler in [*self._previous.items()]:
            signal.signal(number, handler)
        self._previous.clear()
