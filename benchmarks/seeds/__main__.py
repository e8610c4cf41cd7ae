"""Several seeds in one program by `vmap`, against a single seed.

    python -m benchmarks.seeds [--model resnet18] [--seeds 4] [--out FILE]

The ratio is the time per seed of the joint VaSSO step over the time of a step of a single seed.
Below 1, training several seeds at once is faster.
"""

import json

import jax
import jax.numpy as jnp

from benchmarks.harness.arguments import Parser, one_message, positive, settings
from benchmarks.harness.machine import describe
from benchmarks.harness.results import write_json
from benchmarks.harness.timing import in_turn, summary, timed
from benchmarks.harness.train_step import Step, Workload, make_step, rejit


@one_message()
def main() -> None:
    """The command above."""
    parser = Parser(
        __doc__, model="resnet18", batch_size=128, precision="float32", rounds=10, steps=5
    )
    parser.add_argument("--seeds", type=positive, default=4, help="how many in one program (4)")
    options = parser.parse_args()
    workload = Workload(options.model, 32, options.batch_size, 10, options.precision)
    alone = make_step(workload, "vasso")
    with workload.matmul_precision:
        joint = _joint(make_step(workload, "vasso"), options.seeds)
    of_a_seed = {
        "alone": timed(lambda: alone.run(options.steps), per=options.steps),
        "joint": timed(lambda: joint.run(options.steps), per=options.steps * options.seeds),
    }
    seconds = in_turn(of_a_seed, options.rounds)
    result = {
        **settings(options),
        **summary(seconds["joint"], seconds["alone"]),
        **describe(),
    }
    if options.out:
        write_json(options.out, result)
    print(json.dumps({name: result[name] for name in ("ratio", "ratio_min", "ratio_max")}))


def _joint(step: Step, seeds: int) -> Step:
    """The same step for that many states; they are equal, which does not change the time."""
    state = jax.tree.map(lambda x: jnp.stack([x] * seeds), step.state)
    mapped = rejit(step, jax.vmap(step.function.__wrapped__, (0, None)), donate_argnums=0)
    return Step(step.function, mapped.lower(state, step.batch).compile(), state, step.batch)


if __name__ == "__main__":
    main()
