"""Evaluation of a state on a split of the data."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax

from vasso_jax.train.errors import DataError
from vasso_jax.train.input_pipeline import Pipeline
from vasso_jax.train.steps.program import Program
from vasso_jax.train.steps.state import OF_PASS, TrainState


def evaluate(
    program: Program,
    pipeline: Pipeline,
    state: TrainState,
    split: str,
    at_each_batch: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Means over the images of a split, each counted once.

    If the state has an average of its weights, that is evaluated, too.

    Args:
        program: of the run.
        pipeline: whose images are read.
        state: what is evaluated.
        split: `test` or `validation`.
        at_each_batch: is called before each of them.

    Returns:
        `loss`, `top1`, `top5`, of the average `ema_loss`, `ema_top1`, `ema_top5`, and those of
        `skipped_images`.

    Raises:
        DataError: an image is damaged, and that is to stop the run, or all are.
    """
    batches, ahead = [], pipeline.steps_ahead
    evaluated = {"": state} | ({"ema_": state.averaged} if state.ema else {})
    with contextlib.closing(pipeline.evaluation(split)) as items:
        for item in items:
            at_each_batch()
            sums = {name: program.eval_step(each, item) for name, each in evaluated.items()}
            batches.append(
                {f"{name}{k}": v for name, each in sums.items() for k, v in each.items()}
            )
            if ahead and len(batches) > ahead:
                jax.block_until_ready(batches[-ahead])
    sums = jax.tree.map(lambda *x: math.fsum(map(float, x)), *jax.device_get(batches))
    count = sums["examples"]
    if not count:
        raise DataError(f"every {split} image is damaged: there is nothing to evaluate")
    # JAX has sorted them.
    names = [f"{prefix}{name}" for prefix in evaluated for name in OF_PASS]
    means = {name: sums[name] / count for name in names}
    return {**means, **skipped_images(pipeline)}


def skipped_images(pipeline: Pipeline) -> dict[str, int]:
    """How many damaged images were skipped since the last call, if skipping is enabled."""
    count = pipeline.take_skipped()
    return {} if count is None else {"skipped": count}
