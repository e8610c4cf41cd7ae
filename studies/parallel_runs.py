"""The runs of a study: several at once, and none of them missing."""

import pathlib
from collections.abc import Sequence

from vasso_jax.sweep import ConsoleProgress, PlannedRun, run_all


def train_all(planned: Sequence[PlannedRun], processes: int, cache: pathlib.Path) -> None:
    """Trains what has not finished, and prints one line per run.

    Args:
        planned, cache: see `vasso_jax.sweep.run_all`.
        processes: how many at once.

    Raises:
        ValueError: a run cannot be trained.
    """
    with ConsoleProgress() as progress:
        failures = run_all(planned, processes, progress, cache)
    if failures:
        raise ValueError("; ".join(f"{name}: {message}" for name, message in failures.items()))
