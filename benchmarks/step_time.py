"""Time of a train step with each method, over that of SGD's, taken in turn in one process.

    python benchmarks/step_time.py [--model wrn10_1] [--batch_size 128] [--rounds 5]

The step is the trainer's, on random images of 32x32. Prints one JSON line a method; its ratio is
the median over the rounds, each of which times every method for five steps.
"""

import argparse
import json
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax import models
from vasso_jax.train.mesh import make_mesh
from vasso_jax.train.optimizer import OPTIMIZERS, make_base, make_optimizer
from vasso_jax.train.state import create_state
from vasso_jax.train.step import make_train_step

STEPS = 5
# name: the method, and what its defaults are changed to
METHODS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in OPTIMIZERS}
METHODS["vasso, refresh_every=5"] = ("vasso", {"refresh_every": 5})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="wrn10_1")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.batch_size, 32, 32, 3)).astype(np.uint8)
    labels = rng.integers(0, 10, options.batch_size).astype(np.int32)
    model = models.create(options.model, 10, jnp.float32)

    def run(name: str, state: Any) -> Any:
        for _ in range(STEPS):
            state = steps[name](state, images, labels)
        return jax.block_until_ready(state)

    steps, states = {}, {}
    for name, (optimizer, changes) in METHODS.items():
        base = make_base(
            "sgd",
            0.05,
            momentum=0.9,
            nesterov=False,
            weight_decay=5e-4,
            b1=0.9,
            b2=0.999,
            eps=1e-8,
            clip_norm=0.0,
        )
        tx = make_optimizer(optimizer, base, **changes)
        steps[name] = make_train_step(
            model,
            tx,
            take_batch=lambda images, labels, step: (images, labels),
            augment=lambda key, images: images.astype(jnp.float32) / 255 - 0.5,
            label_smoothing=0.0,
            batch_stats="clean",
            seed=0,
            mesh=make_mesh(),
        )
        states[name] = run(name, create_state(model, tx, (32, 32, 3), seed=0))

    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(options.rounds):
        for name in METHODS:
            start = time.perf_counter()
            states[name] = run(name, states[name])
            seconds[name].append((time.perf_counter() - start) / STEPS)

    device = jax.devices()[0].device_kind
    for name, times in seconds.items():
        ratios = [own / sgd for own, sgd in zip(times, seconds["sgd"], strict=True)]
        record = {
            "method": name,
            "step_seconds": round(statistics.median(times), 4),
            "over_sgd": round(statistics.median(ratios), 3),
            "lowest": round(min(ratios), 3),
            "highest": round(max(ratios), 3),
            "model": options.model,
            "batch_size": options.batch_size,
            "device": device,
            "jax": jax.__version__,
        }
        print(json.dumps(record))


if __name__ == "__main__":
    main()
