"""Statistics over seeds: means with their spread, and paired differences."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Mean over n runs and their standard deviation (n - 1 in the denominator; None for n = 1)."""

    mean: float
    std: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Mean of n differences, the ends of its 95 % confidence interval, and their deviation."""

    mean: float
    low: float
    high: float
    n: int
    std: float


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard deviation of one or more values."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return Estimate(statistics.fmean(values), std, len(values))


def interval(value: Estimate) -> tuple[float, float] | None:
    """The ends of Student's 95 % confidence interval of a mean; None for a single value."""
    if value.std is None:
        return None
    margin = _margin(value.std, value.n)
    return value.mean - margin, value.mean + margin


def paired_difference(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> PairedDifference:
    """Mean of ours minus theirs over the seeds that both have, with its 95 % interval.

    The interval is Student's, mean +- t(0.975, n - 1) * s / sqrt(n) with s the standard deviation
    of the differences. It assumes that these are normally distributed. It covers what the seeds
    change, and nothing else.

    Args:
        ours: value by seed.
        theirs: value by seed; the same seed stands for the same random numbers as in `ours`.

    Returns:
        The mean difference over the n seeds in both.

    Raises:
        ValueError: they share fewer than two seeds.
    """
    differences = [value - theirs[seed] for seed, value in ours.items() if seed in theirs]
    n = len(differences)
    if n < 2:
        raise ValueError(f"a paired difference needs two or more seeds in both, there are {n}")
    mean, std = statistics.fmean(differences), statistics.stdev(differences)
    margin = _margin(std, n)
    return PairedDifference(mean, mean - margin, mean + margin, n, std)


def seeds_needed(std: float, difference: float, most: int = 10_000) -> int | None:
    """How many seeds make the 95 % interval of a paired difference reach no further than it.

    Args:
        std: of the differences between runs of one seed.
        difference: to be told from zero, > 0.
        most: not more are tried.

    Returns:
        The least n >= 2 with t(0.975, n - 1) * std / sqrt(n) <= difference; None beyond `most`.
    """
    low, high = 2, most
    if _margin(std, high) > difference:
        return None
    while low < high:  # the margin falls with n
        middle = (low + high) // 2
        low, high = (low, middle) if _margin(std, middle) <= difference else (middle + 1, high)
    return low


def _margin(std: float, n: int) -> float:
    """Half the length of the 95 % interval of a mean of n values."""
    # Local: scipy is slow to import, and only this needs it.
    from scipy import special

    return float(special.stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
