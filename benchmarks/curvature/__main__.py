"""Cost of a product with a curvature matrix: time and memory, over a gradient of the same data.

    python -m benchmarks.curvature [--model wrn10_1] [--image_size 32] [--batch_size 64]
        [--batches 2] [--out FILE]

The gradient is that of the mean loss over random images, in as many batches. BatchNorm uses its
running statistics. 'gradient again' checks the timing: without noise its ratio would be 1. Memory
is the compiler's count of temporaries and results, without the data and the parameters themselves.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax.tree_util import Partial
from rich.console import Console
from rich.table import Table

from benchmarks.harness.arguments import Parser, one_message, positive, settings
from benchmarks.harness.machine import describe
from benchmarks.harness.results import write_json
from benchmarks.harness.timing import in_turn, summary, timed
from vasso_jax import models
from vasso_jax.sharpness import Objective, fisher, gauss_newton, hessian, mean_loss

OPERATORS = {"hessian": hessian, "gauss_newton": gauss_newton, "fisher": fisher}


@one_message()
def main() -> None:
    """The command above."""
    parser = Parser(__doc__, model="wrn10_1", image_size=32, batch_size=64, classes=10, rounds=10)
    parser.add_argument("--batches", type=positive, default=2, help="of the data set (2)")
    options = parser.parse_args()
    result = measure(options)
    if options.out:
        write_json(options.out, result)
    Console().print(table(result))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Times the gradient and the products in turn.

    Args:
        options: the arguments of the command.

    Returns:
        The content of the JSON file, with `rows` by what was timed.

    Raises:
        ValueError: an unknown network.
    """
    objective, params = _objective(options)
    vector = jax.tree.map(np.ones_like, params)
    programs = {"gradient": _compiled(Objective.value_and_grad, objective, params)}
    programs["gradient again"] = programs["gradient"]
    for name, make in OPERATORS.items():
        operator = make(objective, params)
        programs[name] = _compiled(type(operator).product, operator, vector)
    runs = {name: timed(run) for name, (run, _) in programs.items()}
    seconds = in_turn(runs, options.rounds)
    rows = {
        name: summary(times, seconds["gradient"])
        | {"memory_bytes": programs[name][1], "seconds": times}
        for name, times in seconds.items()
    }
    size = sum(x.nbytes for x in jax.tree.leaves(params))
    return {**settings(options), "parameter_bytes": size, **describe(), "rows": rows}


def _objective(options: argparse.Namespace) -> tuple[Objective, Any]:
    """The mean loss of a network on random images, and its initial parameters."""
    model = models.create(options.model, options.classes)
    rng = np.random.default_rng(0)
    examples = options.batch_size * options.batches
    images = rng.normal(size=(examples, *(options.image_size,) * 2, 3)).astype(np.float32)
    labels = rng.integers(0, options.classes, examples).astype(np.int32)
    variables = jax.jit(lambda: model.init(jax.random.key(0), images[:1], train=False))()
    statistics = {name: value for name, value in variables.items() if name != "params"}

    def outputs(statistics: Any, params: Any, batch: Any) -> jax.Array:
        return model.apply({"params": params, **statistics}, batch["images"], train=False)

    def losses(outputs: jax.Array, batch: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["labels"])

    data = {"images": images, "labels": labels}
    bound = Partial(outputs, statistics)
    return mean_loss(bound, losses, data, options.batch_size), variables["params"]


def _compiled(function: Any, *args: Any) -> tuple[Callable[[], object], int]:
    """A function that runs the program and waits for its result, and its memory in bytes."""
    with jax.default_matmul_precision("highest"):  # as the function itself has it
        compiled: Any = jax.jit(function).lower(*args).compile()
    memory = compiled.memory_analysis()
    used = memory.temp_size_in_bytes + memory.output_size_in_bytes
    return lambda: jax.block_until_ready(compiled(*args)), used


def table(result: dict[str, Any]) -> Table:
    """The rows of a result, for the console."""
    shown = Table(title=f"{result['model']}, {result['batches']} x {result['batch_size']} images")
    for heading in ("", "median s", "over a gradient", "least, greatest", "memory, MB"):
        shown.add_column(heading, justify="right" if heading else "left")
    for name, row in result["rows"].items():
        spread = f"{row['ratio_min']:.2f}, {row['ratio_max']:.2f}"
        megabytes = f"{row['memory_bytes'] / 1e6:.0f}"
        shown.add_row(name, f"{row['median_s']:.3f}", f"{row['ratio']:.2f}", spread, megabytes)
    return shown


if __name__ == "__main__":
    main()
