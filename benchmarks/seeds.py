"""Several seeds in one program by `vmap`, against one seed alone.

    python -m benchmarks.seeds [--model resnet18] [--seeds 4] [--out FILE]

The ratio is a seed's share of the time of the joint VaSSO step over the time of a step of one seed:
under 1, training several seeds at once pays.
"""

import argparse
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from vasso_jax.train.mesh import check_batch_size, make_mesh

from benchmarks.jax_steps import Step, make_step, matmul_precision
from benchmarks.machine import describe
from benchmarks.turns import in_turn, summary
from vasso_jax import models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--precision", default="float32", choices=("float32", "tf32", "bfloat16"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5, help="in a round")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    options = parser.parse_args()
    if min(options.rounds, options.steps, options.batch_size) < 1:
        parser.error("rounds, steps and batch_size must be at least 1")
    try:
        models.create(options.model, 10)
        check_batch_size(options.batch_size, make_mesh())
    except ValueError as error:
        parser.error(str(error))

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.batch_size, 32, 32, 3)).astype(np.uint8)
    labels = rng.integers(0, 10, options.batch_size).astype(np.int32)
    settings = {"method": "vasso", "precision": options.precision}
    alone = make_step(options.model, images, labels, 10, **settings)
    with matmul_precision(options.precision):
        joint = _joint(make_step(options.model, images, labels, 10, **settings), options.seeds)
    runs = {"alone": lambda: alone.run(options.steps), "joint": lambda: joint.run(options.steps)}
    seconds = {
        name: [time / options.steps for time in times]
        for name, times in in_turn(runs, options.rounds).items()
    }
    of_a_seed = [time / options.seeds for time in seconds["joint"]]
    result = {
        **{name: value for name, value in vars(options).items() if name != "out"},
        **summary(of_a_seed, seconds["alone"]),
        **describe(),
    }
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("ratio", "ratio_min", "ratio_max")}))


def _joint(step: Step, seeds: int) -> Step:
    """The same step for that many states, which all start alike: the time is the same."""
    state = jax.tree.map(lambda x: jnp.stack([x] * seeds), step.state)
    mapped = jax.jit(jax.vmap(step.function, (0, None, None)), donate_argnums=0)
    compiled = mapped.lower(state, *step.batch).compile()
    return Step(step.function, compiled, state, step.batch, step.flops * seeds, 0)


if __name__ == "__main__":
    main()
