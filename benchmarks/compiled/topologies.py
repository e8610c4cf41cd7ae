"""Devices that are not here, described to the compiler for them."""

import importlib.util
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

# What XLA asks of the driver where there is a GPU. Figures of the data sheet of the H100 SXM, and
# of CUDA for compute capability 9.0.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  device_memory_size: 84929347584 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
}
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 12 minor: 9 patch: 0 }
"""


def devices(topology: str) -> Sequence[jax.Device]:
    """The devices of a topology such as `h100:8` or `v5e:4x4`, for a mesh to compile for.

    Call it before JAX is used in any other way: it chooses the CPU as JAX's own platform.

    Raises:
        ValueError: there is no such topology.
        ImportError: the compiler for these devices is not installed.
    """
    jax.config.update("jax_platforms", "cpu")
    # There is no TPU here and no metadata server to ask for one, and no driver of a GPU.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    if gpus := re.fullmatch(r"h100:([1-9]\d*)", topology):
        platform, extra, package = "cuda", "cuda12", "jax_cuda12_plugin"
        options = {"target_config": _H100, "topology": f"1x1x{gpus[1]}"}
    elif not re.match(r"v\d", topology):
        raise ValueError(
            f"a topology is h100:N or a slice of TPUs such as v5e:4x4, got {topology!r}"
        )
    else:
        platform, extra, package = "tpu", "tpu", "libtpu"
        options = {"topology_name": topology}
    try:
        return topologies.get_topology_desc(platform=platform, **options).devices
    except Exception as error:  # of many kinds: missing plugins and wrong names raise differently
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"the compiler for {topology} is missing: pip install -e '.[{extra}]'"
            ) from error
        reason = str(error).splitlines()[0]
        raise ValueError(f"there is no topology {topology!r}: {reason}") from error
