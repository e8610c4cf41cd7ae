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
    """Mean of n differences and the ends of its 95 % confidence interval."""

    mean: float
    low: float
    high: float
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard deviation of one or more values."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return Estimate(statistics.fmean(values), std, len(values))


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
    # Local: scipy is slow to import, and only this needs it.
    from scipy import special

    differences = [value - theirs[seed] for seed, value in ours.items() if seed in theirs]
    n = len(differences)
    if n < 2:
        raise ValueError(f"a paired difference needs two or more seeds in both, there are {n}")
    mean = statistics.fmean(differences)
    t = float(special.stdtrit(n - 1, 0.975))
    margin = t * statistics.stdev(differences) / math.sqrt(n)
    return PairedDifference(mean, mean - margin, mean + margin, n)
