"""Evaluation of a state on a split of the data."""

import contextlib
import math
from typing import Any

import jax

from vasso_jax.train.errors import DataError
from vasso_jax.train.input_pipeline import Pipeline
from vasso_jax.train.program import Program
from vasso_jax.train.state import TrainState


def evaluate(program: Program, pipeline: Pipeline, state: TrainState, split: str) -> dict[str, Any]:
    """Means over the images of a split, each counted once.

    Args:
        program: of the run.
        pipeline: whose images are read.
        state: what is evaluated.
        split: `test` or `validation`.

    Returns:
        `loss`, `top1`, `top5`, and `skipped_images`.

    Raises:
        DataError: an image is damaged, and that is to stop the run, or all are.
    """
    batches, ahead = [], pipeline.steps_ahead
    with contextlib.closing(pipeline.evaluation(split)) as items:
        for item in items:
            batches.append(program.eval_step(state, item))
            if ahead and len(batches) > ahead:
                jax.block_until_ready(batches[-ahead])
    sums = jax.tree.map(lambda *x: math.fsum(map(float, x)), *jax.device_get(batches))
    count = sums.pop("examples")
    if not count:
        raise DataError(f"every {split} image is damaged: there is nothing to evaluate")
    means = {name: value / count for name, value in sums.items()}
    return {**means, **skipped_images(pipeline)}


def skipped_images(pipeline: Pipeline) -> dict[str, int]:
    """How many damaged images were skipped since the last call, if skipping is enabled."""
    count = pipeline.take_skipped()
    return {} if count is None else {"skipped": count}
