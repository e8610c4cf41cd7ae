"""What the input of a small data set costs: a train step with it over one without, in turn.

    python -m benchmarks.input_on_device [--model wrn16_4] [--batch_size 128] [--rounds 7]

With: the trainer's step on 50,000 random images of 32x32 that lie on the device, of which it takes,
crops, flips and normalises a batch, and cuts holes (CIFAR's setting). Without: the same step on one
batch that is ready. Prints one JSON line; the ratio is the median over the rounds.
"""

import argparse
import json
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from vasso_jax.train.feeds import DeviceFeed
from vasso_jax.train.mesh import make_mesh

from vasso_jax import data, models, optim
from vasso_jax.train.state import create_state
from vasso_jax.train.step import make_train_step

STEPS = 5
STATISTICS = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="wrn16_4")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50_000, 32, 32, 3)).astype(np.uint8)
    split = data.Split(images, rng.integers(0, 10, len(images)).astype(np.int32))
    names = tuple(map(str, range(10)))
    dataset = data.ImageDataset("random", names, **STATISTICS, train=split, test=split)
    mesh = make_mesh()
    feed = DeviceFeed(dataset, batch_size=options.batch_size, seed=0, mesh=mesh)
    model = models.create(options.model, 10)
    tx = optim.vasso(optax.sgd(0.1), rho=0.05, theta=0.4)
    build = partial(
        make_train_step, model, tx, label_smoothing=0.0, batch_stats="clean", seed=0, mesh=mesh
    )
    augmentation = data.Augmentation(4, True, 16, 0.5)
    augment = partial(data.augment, options=augmentation, **STATISTICS)
    with_input = build(take_batch=feed.take_batch, augment=augment)
    without = build(
        take_batch=lambda pixels, labels, step: (pixels, labels), augment=lambda key, pixels: pixels
    )
    arguments = next(feed.training(0))
    batch = jnp.asarray(images[: options.batch_size], jnp.float32) / 255, arguments[1][:1]
    batch = batch[0], jnp.resize(batch[1], options.batch_size)

    def seconds(step, state, *arguments):
        start = time.perf_counter()
        for _ in range(STEPS):
            state = step(state, *arguments)
        jax.block_until_ready(state)
        return state, (time.perf_counter() - start) / STEPS

    kinds = {"with": (with_input, arguments), "without": (without, batch)}
    states = {kind: create_state(model, tx, (32, 32, 3), seed=0) for kind in kinds}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for round_ in range(-1, options.rounds):
        for kind, (step, fed) in kinds.items():
            states[kind], taken = seconds(step, states[kind], *fed)
            if round_ >= 0:  # the first one compiles
                times[kind].append(taken)
    ratios = [a / b for a, b in zip(times["with"], times["without"], strict=True)]
    record = {
        "step_seconds_with_input": round(statistics.median(times["with"]), 4),
        "over_without": round(statistics.median(ratios), 4),
        "lowest": round(min(ratios), 4),
        "highest": round(max(ratios), 4),
        "model": options.model,
        "batch_size": options.batch_size,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
