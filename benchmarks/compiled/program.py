"""The compiled train step of a plan, and what the compiler reports about it."""

from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.compiled.collectives import collectives
from vasso_jax import data
from vasso_jax.train.plan import DataSpec, Plan
from vasso_jax.train.sharding import batch_sharding


def compile_step(plan: Plan, spec: DataSpec) -> jax.stages.Compiled:
    """The train step with a streamed batch, compiled for the devices of the plan.

    Args:
        plan: its devices may be those of a topology description.
        spec: of the data set.
    """
    program = plan.program(spec)
    size, split = plan.options.batch_size, batch_sharding(plan.mesh)
    batch = data.Batch(
        jax.ShapeDtypeStruct((size, *spec.image_shape), jnp.uint8, sharding=split),
        jax.ShapeDtypeStruct((size,), jnp.int32, sharding=split),
    )
    step: Any = program.train_step
    return step.lower(program.abstract_state, batch).compile()


def measure(compiled: jax.stages.Compiled) -> dict[str, Any]:
    """The compiler's figures for one device's share; all but `flops` are bytes or counts."""
    costs: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    exchanged: dict[str, dict[str, int]] = {}
    for each in collectives(compiled.as_text()):
        total = exchanged.setdefault(each.kind, {"operations": 0, "arrays": 0, "bytes": 0})
        total["operations"] += 1
        total["arrays"] += len(each.arrays)
        total["bytes"] += each.bytes
    return {
        "flops": costs["flops"],
        "bytes_accessed": costs["bytes accessed"],
        "memory": {
            "arguments": memory.argument_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "outputs": memory.output_size_in_bytes,
            "outputs_in_arguments": memory.alias_size_in_bytes,
            "program": memory.generated_code_size_in_bytes,
        },
        "collectives": exchanged,
    }
