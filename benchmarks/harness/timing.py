"""Measures in turn: A B C, then C B A, ..., so that other load on the machine affects all alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def in_turn(
    runs: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """What each of `runs` measures in each round.

    Every second round goes backwards, so that no run always has the same one before it.

    Args:
        runs: functions that return what they have measured, such as `timed` makes.
        rounds: how many.
        warm_up: call each function once before, and drop the result.
    """
    if warm_up:
        for run in runs.values():
            run()
    measured: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs)[:: -1 if i % 2 else 1]:
            measured[name].append(runs[name]())
    return measured


def timed(run: Callable[[], object], per: int = 1) -> Callable[[], float]:
    """A function that calls `run` and returns the seconds that it took, divided by `per`.

    Args:
        run: returns only when its result is complete.
        per: such as the number of steps in `run`.
    """

    def measure() -> float:
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) / per

    return measure


def ratios(own: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum of `own` over `other`, round by round."""
    values = [a / b for a, b in zip(own, other, strict=True)]
    return {
        "ratio": statistics.median(values),
        "ratio_min": min(values),
        "ratio_max": max(values),
    }


def summary(seconds: Sequence[float], of_reference: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum of `seconds`, and the `ratios` to those of a reference."""
    return {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        **ratios(seconds, of_reference),
    }
