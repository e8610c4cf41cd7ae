"""Being told to stop: Ctrl-C, or the SIGTERM that a scheduler sends before it takes a machine."""

import signal
from types import FrameType, TracebackType

import jax
from jax.experimental import multihost_utils


class StopRequests:
    """Inside this context SIGINT and SIGTERM no longer end the process; `arrived` tells of them.

    A second signal has its usual effect again. With several processes SIGINT always has it, and
    SIGTERM is left to JAX's coordination service, which makes all of them agree on the step.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous = {}

    def __enter__(self) -> "StopRequests":
        if jax.process_count() == 1:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def arrived(self, step: int) -> bool:
        """Whether to save and stop after `step`; call it at every step, on every process."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.signal = signal.SIGTERM
        return self.signal is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
