"""The trainer's VaSSO step in float32 beside the same in float64: is it right with this jaxlib?

    python -m benchmarks.rounding [--models resnet18 vit_s32 ...] [--batch_size 16] [--out FILE]

Some versions of jaxlib compute certain sums wrongly on CPUs, by far more than rounding
(docs/optimizers.md). Two float32 programs and one in float64 start from the same state, on the same
random images: the trainer's, and the same without the fused sums that can be wrong. The command
reports how far each is from float64. Rounding moves some activations to the other side of a ReLU's
zero, which makes that more than 1e-6; a wrong sum makes the first program's difference larger than
the second's by orders of magnitude. With --out, what is in the file is not measured again with the
same versions.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from benchmarks.harness.arguments import Parser, one_message
from benchmarks.harness.machine import describe
from benchmarks.harness.results import read_records, write_json
from benchmarks.harness.train_step import Workload
from vasso_jax import data
from vasso_jax.train.devices.sharding import batch_sharding
from vasso_jax.train.input_pipeline import ready_batch
from vasso_jax.train.plan import Plan
from vasso_jax.train.steps import compiler_options
from vasso_jax.train.steps.step import make_train_step

# The first step has no average yet, and starts with a momentum of zero.
STEPS_BEFORE = 2
# Side of the images in pixels, and classes.
MODELS = {
    "wrn10_1": (32, 10),
    "resnet18": (32, 10),
    "wrn28_10": (32, 100),
    "vgg11_bn": (32, 10),
    "pyramidnet110": (32, 100),
    "resnet50_imagenet": (96, 1000),
    "vit_s32": (96, 1000),
}
# The default of this option, without its LIBRARY_FUSION_TYPE_REDUCE.
_SINGLE_SUMS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    )
}


@one_message()
def main() -> None:
    """The command above."""
    parser = Parser(__doc__, batch_size=16, out="JSON file of the networks")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    if jax.default_backend() != "cpu":
        raise ValueError("the sums in question are those of CPUs: set JAX_PLATFORMS=cpu")
    records = read_records(options.out)
    console = Console()
    for model in options.models:
        case = {"model": model, "batch_size": options.batch_size, **describe()}
        if any(case.items() <= record.items() for record in records):
            continue
        size, classes = MODELS[model]
        found = differences(Workload(model, size, options.batch_size, classes, "float32"))
        console.print({"model": model, "jax": jax.__version__, **found})
        records.append({**case, **found})
        if options.out:
            write_json(options.out, records)


def differences(workload: Workload) -> dict[str, dict[str, float]]:
    """How far a VaSSO step is from the same step in float64.

    Returns:
        {"trainer": ..., "single_sums": ...}, each {part: the largest difference of one of its
        arrays}. Parts are the optimizer's state (from which the parameters follow), BatchNorm's
        statistics and the metrics. The difference is the norm of that of the two new arrays, over
        the norm of the array's change, or over a thousandth of the part's largest such norm if that
        is more: a bias before BatchNorm changes only by rounding.
    """
    plan = _without_dropout(workload.plan("vasso"))
    batch = jax.device_put(workload.batch, batch_sharding(plan.mesh))
    program = plan.program(workload.spec)
    state = program.create_state()
    for _ in range(STEPS_BEFORE):
        state = program.train_step(state, batch)
    start = jax.device_get(state)
    trainer = jax.device_get(program.train_step(state, batch))
    options = (compiler_options.for_steps(plan.mesh.devices.flat[0]) or {}) | _SINGLE_SUMS
    single_sums = _step(plan, workload, program.model, compiler_options=options)(start, batch)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(float) if x.dtype == np.float32 else x, start)
        exact = _step(plan, workload, program.model.clone(dtype=jnp.float64))(wide, batch)
        exact = jax.device_get(exact)
    return {
        name: {
            part: apart(*(getattr(state, part) for state in (start, found, exact)))
            for part in ("opt_state", "batch_stats", "metric_sums")
        }
        for name, found in (("trainer", trainer), ("single_sums", jax.device_get(single_sums)))
    }


def _without_dropout(plan: Plan) -> Plan:
    """Its random numbers depend on the dtype."""

    def make_model(classes: int) -> nn.Module:
        model = plan.make_model(classes)
        return model.clone(dropout_rate=0.0) if hasattr(model, "dropout_rate") else model

    return dataclasses.replace(plan, make_model=make_model)


def _step(plan: Plan, workload: Workload, model: nn.Module, **options: Any) -> Callable[..., Any]:
    """As the trainer's, for any dtype."""
    spec = workload.spec
    optimizer = plan.make_optimizer(1)
    return make_train_step(
        model,
        optimizer.tx,
        rho=optimizer.rho,
        take_batch=ready_batch,
        augment=partial(data.augment, options=plan.augmentation, mean=spec.mean, std=spec.std),
        label_smoothing=plan.options.label_smoothing,
        batch_stats=plan.options.batch_stats,
        mesh=plan.mesh,
        **options,
    )


def apart(start: Any, found: Any, exact: Any) -> float:
    """The largest difference of an array of `found` and `exact`; see `differences`."""

    def norms(a: Any, b: Any) -> list[float]:
        leaves = map(np.subtract, jax.tree.leaves(a), jax.tree.leaves(b))
        return [float(np.sqrt(np.sum(np.square(x, dtype=float)))) for x in leaves]

    changes = norms(exact, start)
    least = max(changes, default=0) / 1000
    pairs = zip(norms(exact, found), changes, strict=True)
    relative = [x / max(change, least) if x else 0.0 for x, change in pairs]
    return float(np.max(relative, initial=0.0))  # NaN if there is one


if __name__ == "__main__":
    main()
