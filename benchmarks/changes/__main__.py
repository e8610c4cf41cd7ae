"""Effect of design decisions: the VaSSO step with one decision undone at a time.

    python -m benchmarks.changes [--model wrn10_1] [--batch_size 128] [--out FILE]

as it is           the state donated, metrics summed on the device, one step per dispatch
without donation   old and new state both in memory
metrics fetched    fetched by the host in every step
scan               all steps of a round in one dispatch
optimizer alone    only the arithmetic of VaSSO and SGD, on given gradients
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console
from rich.table import Table

from benchmarks.harness.arguments import Parser, one_message, settings
from benchmarks.harness.machine import describe
from benchmarks.harness.results import write_json
from benchmarks.harness.timing import in_turn, summary, timed
from benchmarks.harness.train_step import Step, Workload, make_step, rejit


@one_message()
def main() -> None:
    """The command above."""
    parser = Parser(
        __doc__,
        model="wrn10_1",
        image_size=32,
        batch_size=128,
        precision="float32",
        rounds=10,
        steps=5,
    )
    options = parser.parse_args()
    workload = Workload(
        options.model, options.image_size, options.batch_size, 10, options.precision
    )
    made = [make_step(workload, "vasso") for _ in range(4)]  # one each, as each donates its state
    with workload.matmul_precision:  # some are compiled at their first call
        runs = {
            "as it is": lambda: made[0].run(options.steps),
            "without donation": _without_donation(made[1], options.steps),
            "metrics fetched": _with_metrics_fetched(made[2], options.steps),
            "scan": _scanned(made[3], options.steps),
            **_optimizers_alone(workload, made[0].state.params, options.steps),
        }
        seconds = in_turn(
            {name: timed(run, per=options.steps) for name, run in runs.items()}, options.rounds
        )
    rows = {name: summary(times, seconds["as it is"]) for name, times in seconds.items()}
    if options.out:
        write_json(options.out, {**settings(options), **describe(), "rows": rows})
    title = str(settings(options))
    table = Table("change", "median ms", "over the step as it is", "range", title=title)
    for name, row in rows.items():
        values = (f"{row[key]:.3f}" for key in ("ratio_min", "ratio_max"))
        table.add_row(name, f"{1e3 * row['median_s']:.2f}", f"{row['ratio']:.3f}", "-".join(values))
    Console().print(table)


def _without_donation(step: Step, steps: int) -> Callable[[], None]:
    function = rejit(step, step.function.__wrapped__)
    again = Step(function, function, step.state, step.batch)
    again.run(1)  # compiles
    return lambda: again.run(steps)


def _with_metrics_fetched(step: Step, steps: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(steps):
            step.run(1)
            jax.device_get(step.state.metric_sums)

    return run


def _scanned(step: Step, steps: int) -> Callable[[], None]:
    inner = step.function.__wrapped__

    def many(state: Any, batch: Any) -> Any:
        return jax.lax.scan(lambda s, _: (inner(s, batch), None), state, length=steps)[0]

    function = rejit(step, many, donate_argnums=0)
    together = Step(function, function, step.state, step.batch)
    together.run(1)  # compiles
    return lambda: together.run(1)


def _optimizers_alone(workload: Workload, params: Any, steps: int) -> dict[str, Callable[[], None]]:
    # Copied, since the step donates its state; the values do not matter here.
    params = jax.tree.map(np.asarray, params)
    runs = {}
    for method in ("vasso", "sgd"):
        tx = workload.plan(method).make_optimizer(1).tx

        # The second gradient depends on w + eps; otherwise the perturbation would not be computed.
        def one(carry: Any, _: None, update: Any = tx.update) -> Any:
            params, state = carry
            updates, state = update(params, state, params, grad_fn=lambda at, i: at)
            return optax.apply_updates(params, updates), state

        function = jax.jit(one, donate_argnums=0)
        carry = jax.tree.map(jax.numpy.array, (params, tx.init(params)))
        alone = Step(function, function, carry, None)
        runs[f"optimizer alone, {method}"] = lambda alone=alone: alone.run(steps)
    return runs


if __name__ == "__main__":
    main()
