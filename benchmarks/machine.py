"""What a benchmark ran on: the device, its peak, and the versions of what was used."""

import functools
import os
import platform
import time
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp

# Dense FLOP/s of one chip by the vendors' data sheets, without sparsity: NVIDIA H100, H200 (SXM),
# A100 and L4 data sheets; Google's pages "TPU v4", "TPU v5e", "TPU v5p", "TPU v6e".
_PEAKS: dict[str, dict[str, float]] = {
    "H100": {"float32": 67e12, "tf32": 494.5e12, "bfloat16": 989e12},
    "H200": {"float32": 67e12, "tf32": 494.5e12, "bfloat16": 989e12},
    "A100": {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12},
    "L4": {"float32": 30.3e12, "tf32": 60e12, "bfloat16": 121e12},
    "TPU v4": {"bfloat16": 275e12},
    "TPU v5 lite": {"bfloat16": 197e12},
    "TPU v5p": {"bfloat16": 459e12},
    "TPU v6 lite": {"bfloat16": 918e12},
}


def describe() -> dict[str, Any]:
    """The device in words, and versions; None for what is not installed."""
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
    """FLOP/s that the first device could do, and where the figure is from.

    By the data sheet where this file has it; elsewhere (CPUs) the rate of a large matrix product
    that is timed here and now.
    """
    kind = jax.devices()[0].device_kind
    for name, peaks in _PEAKS.items():
        if name in kind and precision in peaks:
            return peaks[precision], f"data sheet of {name}, {precision}, dense"
    return _matmul_rate(), "a 2048x2048 float32 matrix product, best of 20, timed in this run"


@functools.cache
def _matmul_rate() -> float:
    size = 2048
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
