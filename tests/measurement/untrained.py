"""Run folders with checkpoints of a tiny network on the digits, which nobody has trained."""

import json
from functools import partial

import jax
import numpy as np

from tests.train.networks import NAME, Small
from vasso_jax.measurement import LossOptions
from vasso_jax.runs import RunFolder, read_run
from vasso_jax.train import check
from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.presets import digits
from vasso_jax.train.run_data import read_again

# With the accuracy in the records, so that the first one is the best.
STEPS = {11: 0.75, 22: 0.5}
# Of the loss that is measured: few images, in two batches.
FEW = LossOptions(examples=30, batch_size=16)
MODEL = {"name": NAME, "features": 4}


def write(folder, method="none", seed=0, factor=1.0, **fields):
    """The folder of a finished run of two epochs, with a checkpoint of each.

    `factor` is that of all variables, `fields` are further ones of the config.
    """
    config = digits(method)
    config.update({"epochs": 2, "seed": seed, "model": MODEL, **fields})
    settings = check(config).settings
    reader = RunFolder(folder)
    reader.open_for(settings)
    reader.write_facts(settings, read_again(settings)[1])
    checkpoints = Checkpoints(reader.checkpoints_path, keep_last=len(STEPS))
    lines = []
    for epoch, (step, top1) in enumerate(STEPS.items(), start=1):
        scaled = jax.tree.map(lambda x: factor * x, variables(seed, step))
        checkpoints.save(step, scaled)
        for split in ("train", "test"):
            record = {"step": step, "epoch": epoch, "split": split, "top1": top1, "loss": 0.5}
            lines.append(json.dumps({**record, "seconds": 1.0}) + "\n")
    checkpoints.close()
    reader.metrics_path.write_text("".join(lines))
    assert read_run(folder).finished
    return folder


def variables(seed, step):
    """Those of the checkpoint, all drawn at random; statistics and scales are positive."""
    image = jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32)
    init = partial(Small(10, features=MODEL["features"]).init, train=False)
    shapes = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)), image)
    rng = np.random.default_rng((seed, step))

    def draw(shape):
        size = shape.shape
        return np.float32(rng.uniform(0.5, 1.5, size) if len(size) == 1 else rng.normal(size=size))

    return jax.tree.map(draw, shapes)
