"""What a TPU slice does in a train step: the trainer's step, compiled without a TPU.

    python -m benchmarks.compiled [--models resnet50_imagenet ...] [--topologies v5e:2x2 ...]
        [--methods sgd vasso] [--fsdp 1 4] [--per_device 128] [--out FILE] [--markdown]

The compiler comes with libtpu (pip install -e '.[tpu]') and needs no TPU. For each case it reports
one device's share of the compiled program: FLOPs, bytes moved to and from memory, memory needed,
and data exchanged with other devices. With --out, cases that the file holds are not compiled again.
The settings are those of configs/imagenet_resnet50.py and imagenet_vit_s32.py; `sgd` means their
base optimizer alone. The batch is streamed.
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import os
import time
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies
from rich.console import Console

from benchmarks.compiled import tables
from benchmarks.compiled.program import compile_step, measure
from benchmarks.harness.arguments import Parser, one_message, positive
from benchmarks.harness.configs import read_config
from benchmarks.harness.processes import ROOT
from benchmarks.harness.results import read_json, write_json
from benchmarks.harness.train_step import method_section
from vasso_jax.data.datasets import IMAGENET_STATISTICS
from vasso_jax.train import check
from vasso_jax.train.plan import DataSpec

CONFIGS = {"vit_s32": "imagenet_vit_s32", "resnet50_imagenet": "imagenet_resnet50"}
TOPOLOGIES = ("v5e:2x2", "v5e:4x4", "v5e:16x16")


@one_message()
def main() -> None:
    """The command above."""
    options = _options()
    # There is no TPU here, and no metadata server to ask for one.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    jax.config.update("jax_platforms", "cpu")
    console = Console()
    out = options.out
    records = read_json(out) if out and out.exists() else []
    for topology, model, fsdp, method in itertools.product(
        options.topologies, options.models, options.fsdp, options.methods
    ):
        case = {
            "model": model,
            "method": method,
            "topology": topology,
            "fsdp": fsdp,
            "per_device": options.per_device,
        }
        if any(case.items() <= record.items() for record in records):
            continue
        console.print(f"compiling {case} ...", highlight=False)
        records.append({**case, **_measure(model, method, topology, fsdp, options.per_device)})
        if out:
            write_json(out, records)
    if options.markdown:
        print(tables.markdown(records, list(CONFIGS)), end="")
    else:
        console.print(tables.table(records))


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, out="JSON file of the cases")
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--topologies", nargs="+", default=TOPOLOGIES, metavar="v5e:AxB")
    parser.add_argument("--methods", nargs="+", default=("sgd", "vasso"), metavar="METHOD")
    parser.add_argument("--fsdp", nargs="+", type=positive, default=(1, 4), metavar="N")
    parser.add_argument("--per_device", type=positive, default=128, help="images per device (128)")
    parser.add_argument("--markdown", action="store_true", help="the table of docs/scaling.md")
    return parser.parse_args()


def _measure(model: str, method: str, topology: str, fsdp: int, per_device: int) -> dict[str, Any]:
    devices = _devices(topology)
    name = method_section(method)["name"]
    config = read_config([f"--config={ROOT}/configs/{CONFIGS[model]}.py:{name}"])
    config.fsdp = fsdp
    config.batch_size = per_device * len(devices)
    plan = check(config, devices=devices)
    size = plan.settings["data"]["image_size"]
    imagenet = DataSpec(1_281_167, 1000, (size, size, 3), *IMAGENET_STATISTICS)
    begin = time.perf_counter()
    compiled = compile_step(plan, imagenet)
    return {
        "devices": len(devices),
        **measure(compiled),
        "seconds": round(time.perf_counter() - begin, 1),
        "jax": jax.__version__,
        "libtpu": importlib.metadata.version("libtpu"),
    }


def _devices(topology: str) -> Sequence[jax.Device]:
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except RuntimeError as error:
        if importlib.util.find_spec("libtpu") is None:
            raise ImportError(
                "the compiler for TPUs is missing: pip install -e '.[tpu]'"
            ) from error
        reason = str(error).splitlines()[0]
        raise ValueError(f"the TPU compiler knows no topology {topology!r}: {reason}") from error
    return found.devices


if __name__ == "__main__":
    main()
