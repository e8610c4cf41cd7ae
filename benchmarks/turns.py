"""Timing in turn: A B C A B C ..., so that what slows the machine for a while slows all alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def in_turn(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each of `runs` in each round, after one untimed call of each.

    A run returns when its result is there. Every second round goes backwards, so that no run always
    has the same one before it.
    """
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds):
        for name in list(runs)[:: -1 if i % 2 else 1]:
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(seconds: Sequence[float], of_reference: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest of `seconds`, and of their ratios, round by round."""
    ratios = [own / other for own, other in zip(seconds, of_reference, strict=True)]
    return {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }
