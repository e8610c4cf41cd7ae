"""The compiled train step of a plan, and what the compiler reports about it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.compiled.collectives import collectives
from benchmarks.compiled.kernels import H100, KINDS, Kernel, estimated_seconds, kernels, overlapped
from benchmarks.harness.train_step import flops
from vasso_jax import data
from vasso_jax.train.devices.sharding import batch_sharding
from vasso_jax.train.plan import DataSpec, Plan


class CompiledStep(NamedTuple):
    """A train step, compiled.

    Attributes:
        compiled: what JAX has compiled.
        flops: of one device: those of the program as written, over the number of devices.
        network: name of the class of the network.
        of_gpu: whether it is a program for GPUs.
    """

    compiled: jax.stages.Compiled
    flops: float
    network: str
    of_gpu: bool


def compile_step(plan: Plan, spec: DataSpec) -> CompiledStep:
    """The train step with a streamed batch, compiled for the devices of the plan.

    Args:
        plan: its devices may be those of a topology description.
        spec: of the data set.
    """
    step = _lowered(plan, spec)
    # XLA counts a loop's FLOPs once. Microbatches change nothing about how many there are.
    whole = dataclasses.replace(plan, options=dataclasses.replace(plan.options, microbatches=1))
    counted = step if plan.options.microbatches == 1 else _lowered(whole, spec)
    of_gpu = plan.mesh.devices.flat[0].platform == "gpu"
    # To try which kernels are fastest takes a GPU.
    options: Any = {"xla_gpu_autotune_level": 0} if of_gpu else None
    return CompiledStep(
        compiled=step.compile(options),
        flops=flops(counted) / plan.mesh.size,
        network=type(plan.make_model(spec.num_classes)).__name__,
        of_gpu=of_gpu,
    )


def _lowered(plan: Plan, spec: DataSpec) -> jax.stages.Lowered:
    program = plan.program(spec)
    size, split = plan.options.batch_size, batch_sharding(plan.mesh)
    batch = data.Batch(
        jax.ShapeDtypeStruct((size, *spec.image_shape), jnp.uint8, sharding=split),
        jax.ShapeDtypeStruct((size,), jnp.int32, sharding=split),
    )
    step: Any = program.train_step
    traced = step.trace(program.abstract_state, batch)
    of_gpu = plan.mesh.devices.flat[0].platform == "gpu"
    return traced.lower(lowering_platforms=("cuda",)) if of_gpu else traced.lower()


def measure(step: CompiledStep) -> dict[str, Any]:
    """The figures of one device's share.

    Returns:
        Bytes or counts; FLOPs are floating-point numbers. GPUs also have their kernels,
        `estimated_seconds` and `overlapped_bytes`; see there.
    """
    program = step.compiled.as_text()
    memory: Any = step.compiled.memory_analysis()
    exchanged: dict[str, dict[str, int]] = {}
    for each in collectives(program):
        total = exchanged.setdefault(each.kind, {"operations": 0, "arrays": 0, "bytes": 0})
        total["operations"] += 1
        total["arrays"] += len(each.arrays)
        total["bytes"] += each.bytes
    if step.of_gpu:
        moved = _of_kernels(kernels(program, step.network), step.flops)
        moved["overlapped_bytes"] = overlapped(program)
    else:
        costs: Any = step.compiled.cost_analysis()
        moved = {"flops": costs["flops"], "bytes_accessed": costs["bytes accessed"]}
    return {
        **moved,
        "memory": {
            "arguments": memory.argument_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "outputs": memory.output_size_in_bytes,
            "outputs_in_arguments": memory.alias_size_in_bytes,
            "program": memory.generated_code_size_in_bytes,
        },
        "collectives": exchanged,
    }


def _of_kernels(found: list[Kernel], flops: float) -> dict[str, Any]:
    def total(some: list[Kernel]) -> dict[str, int]:
        return {"kernels": len(some), "bytes": sum(each.bytes for each in some)}

    everything = total(found)
    return {
        "flops": flops,
        "bytes_accessed": everything["bytes"],
        "kernels": everything["kernels"],
        "by_kind": {kind: total([k for k in found if k.kind == kind]) for kind in KINDS},
        "outside_the_network": total([k for k in found if not k.of_network]),
        "estimated_seconds": estimated_seconds(found, flops, H100),
    }
