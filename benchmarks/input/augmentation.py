"""What the augmentation of a batch costs by itself, in turn.

    python -m benchmarks.input.augmentation [--batch_size 128] [--image_size 32] [--rounds 7]

Each kind normalises random RGB images on the device, and does what its name says besides. The row
`crop, flip, cutout` is CIFAR's setting; RandAugment has two operations. Ratios are to normalising.
"""

import json
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.harness.arguments import Parser, one_message, settings
from benchmarks.harness.machine import describe
from benchmarks.harness.results import write_json
from benchmarks.harness.timing import in_turn, summary, timed
from vasso_jax import data
from vasso_jax.train.steps import compiler_options

KINDS = {
    "normalise": data.Augmentation(),
    "crop, flip, cutout": data.Augmentation(crop_padding=4, flip=True, cutout_size=16),
    "randaugment": data.Augmentation(policy="randaugment"),
    "trivialaugment": data.Augmentation(policy="trivialaugment"),
    "mixup": data.Augmentation(mixup_alpha=0.2),
    "cutmix": data.Augmentation(cutmix_alpha=1.0),
}


@one_message()
def main() -> None:
    """The command above."""
    options = Parser(__doc__, batch_size=128, image_size=32, rounds=7).parse_args()
    shape = (options.batch_size, options.image_size, options.image_size, 3)
    images = jax.device_put(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
    labels = jax.device_put(np.zeros(options.batch_size, np.int32))
    seconds = in_turn(
        {
            name: timed(partial(_run, _compiled(kind), images, labels))
            for name, kind in KINDS.items()
        },
        options.rounds,
    )
    rows = {name: summary(each, seconds["normalise"]) for name, each in seconds.items()}
    record = {"rows": rows, **settings(options), **describe()}
    if options.out:
        write_json(options.out, record)
    print(json.dumps({name: round(1000 * row["median_s"], 2) for name, row in rows.items()}))


def _compiled(kind: data.Augmentation) -> Any:
    how = compiler_options.for_steps(jax.devices()[0])
    return jax.jit(partial(_augmented, kind), compiler_options=how)


def _augmented(kind: data.Augmentation, key: Any, images: Any, labels: Any) -> Any:
    pixels = data.augment(key, images, options=kind, mean=(0.5,) * 3, std=(0.25,) * 3)
    return data.mix(key, pixels, labels, options=kind) if kind.mixes else pixels


def _run(augmented: Any, images: Any, labels: Any) -> None:
    jax.block_until_ready(augmented(jax.random.key(0), images, labels))


if __name__ == "__main__":
    main()
