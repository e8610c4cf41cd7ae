"""Cost of the input of a small data set: a train step with it over one without, in turn.

    python -m benchmarks.input.on_device [--model wrn16_4] [--batch_size 128] [--rounds 7]

With: the trainer's step on 50,000 random images of 32x32 on the device; it takes a batch of them,
crops, flips and cuts holes (CIFAR's setting). Without: the same step on one ready batch. Both
normalise. Prints one JSON line; the ratio is the median over the rounds.
"""

import json
import statistics
from typing import Any

import jax
import numpy as np

from benchmarks.harness.arguments import Parser, one_message
from benchmarks.harness.results import write_json
from benchmarks.harness.timing import in_turn, ratios, timed
from benchmarks.harness.train_step import Step
from vasso_jax import data
from vasso_jax.train import check
from vasso_jax.train.devices.sharding import batch_sharding
from vasso_jax.train.plan import DataSpec, Plan, Program
from vasso_jax.train.presets import cifar


@one_message()
def main() -> None:
    """The command above."""
    options = Parser(__doc__, model="wrn16_4", batch_size=128, rounds=7, steps=5).parse_args()
    config = cifar("cifar10", options.model, "vasso")
    config.batch_size = options.batch_size
    dataset = _random_images(50_000)
    plan = check(config, dataset=dataset)
    config.augment = {}
    steps = {
        "with": _on_the_data_set(plan, dataset),
        "without": _on_one_batch(check(config, dataset=dataset), dataset),
    }
    seconds = in_turn(
        {
            kind: timed(lambda step=step: step.run(options.steps), per=options.steps)
            for kind, step in steps.items()
        },
        options.rounds,
    )
    over = ratios(seconds["with"], seconds["without"])
    record = {
        "step_seconds_with_input": round(statistics.median(seconds["with"]), 4),
        "over_without": round(over["ratio"], 4),
        "lowest": round(over["ratio_min"], 4),
        "highest": round(over["ratio_max"], 4),
        "model": options.model,
        "batch_size": options.batch_size,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }
    if options.out:
        write_json(options.out, record)
    print(json.dumps(record))


def _random_images(count: int) -> data.ImageDataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    labels = rng.integers(0, 10, count)
    return data.from_arrays("random", (images, labels), (images[:1], labels[:1]), [*"0123456789"])


def _on_the_data_set(plan: Plan, dataset: data.ImageDataset) -> Step:
    """The step as in the trainer; it compiles at its first call."""
    experiment = plan.open(dataset)
    item = next(experiment.pipeline.training(0))
    return _step(experiment.program, item)


def _on_one_batch(plan: Plan, dataset: data.ImageDataset) -> Step:
    """The same step on one ready batch."""
    spec = DataSpec(
        dataset.num_train, len(dataset.class_names), dataset.image_shape, dataset.mean, dataset.std
    )
    batch = data.Batch(*(array[: plan.options.batch_size] for array in dataset.train))
    return _step(plan.program(spec), jax.device_put(batch, batch_sharding(plan.mesh)))


def _step(program: Program, item: Any) -> Step:
    return Step(program.train_step, program.train_step, program.create_state(), item)


if __name__ == "__main__":
    main()
