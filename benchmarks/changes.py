"""What single decisions about the step are worth: the VaSSO step with one of them undone, in turn.

    python -m benchmarks.changes [--model wrn10_1] [--batch_size 128] [--out FILE]

as it is           the state donated, metrics summed on the device, one step a dispatch
without donation   old and new state both in memory
metrics fetched    by the host, in every step
scan               all steps of a round in one dispatch
optimizer alone    VaSSO's and SGD's arithmetic on gradients that are given, and on nothing else
"""

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Table
from vasso_jax.train.mesh import check_batch_size, make_mesh

from benchmarks.jax_steps import RHO, Step, make_step, matmul_precision
from benchmarks.machine import describe
from benchmarks.turns import in_turn, summary
from vasso_jax import models, optim


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="wrn10_1")
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--precision", default="float32", choices=("float32", "tf32", "bfloat16"))
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
    shape = (options.batch_size, options.image_size, options.image_size, 3)
    images = rng.integers(0, 256, shape).astype(np.uint8)
    labels = rng.integers(0, 10, options.batch_size).astype(np.int32)
    made = [  # one each, as each donates its state
        make_step(options.model, images, labels, 10, method="vasso", precision=options.precision)
        for _ in range(4)
    ]
    with matmul_precision(options.precision):  # some compile at their first call
        runs = {
            "as it is": lambda: made[0].run(options.steps),
            "without donation": _without_donation(made[1], options.steps),
            "metrics fetched": _with_metrics_fetched(made[2], options.steps),
            "scan": _scanned(made[3], options.steps),
            **_optimizers_alone(made[0].state.params, options.steps),
        }
        times_of = in_turn(runs, options.rounds)
    seconds = {name: [time / options.steps for time in t] for name, t in times_of.items()}
    rows = {name: summary(times, seconds["as it is"]) for name, times in seconds.items()}
    settings = {name: value for name, value in vars(options).items() if name != "out"}
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result = {**settings, **describe(), "rows": rows}
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    table = Table("change", "median ms", "over the step as it is", "range", title=str(settings))
    for name, row in rows.items():
        values = (f"{row[key]:.3f}" for key in ("ratio_min", "ratio_max"))
        table.add_row(name, f"{1e3 * row['median_s']:.2f}", f"{row['ratio']:.3f}", "-".join(values))
    Console().print(table)


def _without_donation(step: Step, steps: int) -> Callable[[], None]:
    function = jax.jit(step.function.__wrapped__)
    again = Step(function, function, step.state, step.batch, step.flops, step.memory_bytes)
    again.run(1)  # its own result lies otherwise than its first argument: compiles once more
    return lambda: again.run(steps)


def _with_metrics_fetched(step: Step, steps: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(steps):
            step.run(1)
            jax.device_get(step.state.metric_sums)

    return run


def _scanned(step: Step, steps: int) -> Callable[[], None]:
    inner = step.function.__wrapped__

    def many(state: Any, *batch: jax.Array) -> Any:
        return jax.lax.scan(lambda s, _: (inner(s, *batch), None), state, length=steps)[0]

    function = jax.jit(many, donate_argnums=0)
    together = Step(function, function, step.state, step.batch, step.flops, step.memory_bytes)
    together.run(1)  # as above
    return lambda: together.run(1)


def _optimizers_alone(params: Any, steps: int) -> dict[str, Callable[[], None]]:
    sgd = optax.sgd(0.05, momentum=0.9)
    # The first of the benchmark's steps is donated away; its numbers do not matter here.
    params = jax.tree.map(np.asarray, params)
    runs = {}
    for name, tx in (("vasso", optim.vasso(sgd, rho=RHO)), ("sgd", sgd)):
        update = optax.with_extra_args_support(tx).update

        # The second gradient depends on w + eps, or the perturbation would not be computed.
        def one(carry: Any, update: Any = update) -> Any:
            params, state = carry
            updates, state = update(params, state, params, grad_fn=lambda at, i: at)
            return optax.apply_updates(params, updates), state

        function = jax.jit(one, donate_argnums=0)
        carry = jax.tree.map(jax.numpy.array, (params, tx.init(params)))
        alone = Step(function, function, carry, (), 0, 0)
        runs[f"optimizer alone, {name}"] = lambda alone=alone: alone.run(steps)
    return runs


if __name__ == "__main__":
    main()
