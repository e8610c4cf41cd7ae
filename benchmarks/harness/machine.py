"""What a benchmark ran on: the device, its peak FLOP/s, and package versions."""

import functools
import os
import platform
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.harness.timing import in_turn, timed

# Dense FLOP/s of one device, by its name in JAX, from the vendors' data sheets, without sparsity
# (NVIDIA H100 SXM, H200 SXM, A100 SXM, L4; Google's pages on TPU v4, v5e, v5p and v6e).
_HOPPER = {"float32": 67e12, "tf32": 494.5e12, "bfloat16": 989e12}
_AMPERE = {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12}
_PEAKS: dict[str, dict[str, float]] = {
    "NVIDIA H100 80GB HBM3": _HOPPER,
    "NVIDIA H200": _HOPPER,
    "NVIDIA A100-SXM4-40GB": _AMPERE,
    "NVIDIA A100-SXM4-80GB": _AMPERE,
    "NVIDIA L4": {"float32": 30.3e12, "tf32": 60e12, "bfloat16": 121e12},
    "TPU v4": {"bfloat16": 275e12},
    "TPU v5 lite": {"bfloat16": 197e12},
    "TPU v5p": {"bfloat16": 459e12},
    "TPU v6 lite": {"bfloat16": 918e12},
}


def describe() -> dict[str, Any]:
    """The device and package versions; None for packages that are not installed."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "vasso_jax")
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def peak_flops(precision: str) -> tuple[float, str]:
    """Peak FLOP/s of all devices together, and the source of the figure.

    The figure is that of the data sheet if this file has it. Otherwise (CPUs) it is the rate of a
    large matrix product, timed in this process on one device.

    Args:
        precision: float32, tf32 or bfloat16.
    """
    kind = jax.devices()[0].device_kind
    if precision in _PEAKS.get(kind, {}):
        source = f"data sheet, {jax.device_count()} x {kind}, {precision}, dense"
        return _PEAKS[kind][precision] * jax.device_count(), source
    return _matmul_rate(), "a 2048x2048 float32 matrix product, best of 20, timed in this run"


@functools.cache
def _matmul_rate() -> float:
    size = 2048
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    runs = {"product": timed(lambda: product(a, a).block_until_ready())}
    return 2 * size**3 / min(in_turn(runs, 20)["product"])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
