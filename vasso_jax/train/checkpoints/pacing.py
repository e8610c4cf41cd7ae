"""Short epochs share a checkpoint.

To write one occupies the processor for about half a second beside the training, however small the
state is. So what comes soon after a write waits in the host's memory: the best and the latest.
"""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from vasso_jax.train.checkpoints.about import Examined
from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.devices import processes

_SECONDS_BETWEEN_WRITES = 10.0


class _Waiting(NamedTuple):
    step: int
    state: Any
    top1: float | None
    arrays: Mapping[str, Examined]  # as they were on the device
    others: Mapping[str, Any]


class PacedCheckpoints:
    """Passes the newest and the best state on to `Checkpoints`, every ten seconds unless told to.

    With several processes, whose clocks differ, every state is passed on.
    """

    def __init__(self, checkpoints: Checkpoints):
        """`checkpoints` may hold some already."""
        self._checkpoints = checkpoints
        self._newest = checkpoints.latest_step()
        self._waiting: list[_Waiting] = []  # in the order of steps; the last is the newest
        self._pause = 0.0 if processes.several() else _SECONDS_BETWEEN_WRITES
        self._last_write = -self._pause

    def save(
        self,
        step: int,
        state: Any,
        arrays: Mapping[str, Examined],
        top1: float | None = None,
        *,
        at_once: bool = False,
        others: Mapping[str, Any] | None = None,
    ) -> None:
        """As `Checkpoints.save`, but written by `wait` at the latest unless `at_once`.

        Args:
            step, state, arrays, others: as there.
            top1: the accuracy that ranks this state, of the validation or else of the test; None
                (within an epoch): it is never the best.
            at_once: whether it must not wait.

        Raises:
            UsageError: this or an earlier checkpoint could not be written.
        """
        if step == self._newest:
            return
        self._newest = step
        # Of an older state, only the best is wanted, and only while it is better than this one.
        best = max(self._waiting, key=lambda waiting: _rank(waiting.top1), default=None)
        self._waiting = [best] if best and _rank(best.top1) > _rank(top1) else []
        item = _Waiting(step, state, top1, arrays, others or {})
        due = time.monotonic() - self._last_write >= self._pause
        if at_once or due:
            self._write_waiting()
            self._write(item)
        else:
            # The train step reuses the buffers of the state.
            self._waiting.append(item._replace(state=jax.device_get(state)))

    def wait(self) -> None:
        """Returns once everything saved is on disk.

        Raises:
            UsageError: a checkpoint could not be written.
        """
        self._write_waiting()
        self._checkpoints.wait()

    def _write_waiting(self) -> None:
        while self._waiting:
            self._write(self._waiting.pop(0))

    def _write(self, item: _Waiting) -> None:
        is_first = self._checkpoints.latest_step() is None
        self._last_write = time.monotonic()
        self._checkpoints.save(item.step, item.state, item.arrays, item.others)
        if is_first:
            # A disk that cannot be written to is found out before more epochs are lost.
            self._checkpoints.wait()


def _rank(top1: float | None) -> float:
    return -1.0 if top1 is None else top1
