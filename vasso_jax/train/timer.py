"""Decides when the host synchronises with the device, and measures images per second."""

import time

# Long enough that waiting for the device costs almost nothing, short enough for a progress bar.
_LOOK_SECONDS = 1.0


class Timer:
    """Counts the steps between looks at the device, and adapts to about one look per second.

    Steps are dispatched far ahead of the device, so the clock alone would not be enough: a look
    waits for the device.
    """

    def __init__(self, batch_size: int, longest: int | None = None):
        """Starts the clock.

        Args:
            batch_size: images per step.
            longest: maximum number of steps between two looks; None: no maximum.
        """
        self._batch_size = batch_size
        self._longest = longest
        self._interval = 1
        self._steps = 0
        self._timed_steps = 0
        self._seconds = 0.0
        self._since = time.perf_counter()

    def due(self) -> bool:
        """Counts one step; true when it is time to look."""
        self._steps += 1
        return self._steps >= min(self._interval, self._longest or self._interval)

    def looked(self) -> None:
        """Call this when the device has finished all counted steps."""
        elapsed = time.perf_counter() - self._since
        self._timed_steps += self._steps
        self._seconds += elapsed
        if self._steps >= self._interval:
            if elapsed < _LOOK_SECONDS / 2:
                self._interval *= 2
            elif elapsed > _LOOK_SECONDS * 2:
                self._interval = max(1, self._interval // 2)
        self.restart()

    def restart(self) -> None:
        """Leaves out the time since the last look, such as compilation, evaluation or saving."""
        self._steps = 0
        self._since = time.perf_counter()

    def images_per_second(self) -> float | None:
        """Mean training speed since the last reset; None before any step was timed."""
        if not self._timed_steps:
            return None
        return round(self._timed_steps * self._batch_size / self._seconds, 1)

    def reset(self) -> None:
        """Starts a new mean."""
        self._timed_steps, self._seconds = 0, 0.0
        self.restart()
