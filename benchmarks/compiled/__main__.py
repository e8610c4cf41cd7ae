"""What a GPU or TPU does in a train step: the trainer's step, compiled without such a device.

    python -m benchmarks.compiled --topologies h100:1 [v5e:2x2 ...] [--models resnet18 ...]
        [--methods sgd vasso] [--fsdp 1 4] [--per_device 128] [--out FILE]
        [--settings model.remat=True batch_stats_over=device ...] [--markdown]

A topology is h100:N for N GPUs of one host (pip install -e '.[cuda12]'), or a slice of TPUs (pip
install -e '.[tpu]'). The compilers need no such device, and nothing runs. For each case the command
reports one device's share of the compiled program: FLOPs, bytes moved to and from memory, memory
needed, and data exchanged with other devices; for GPUs also the kernels by kind, and an estimate of
the time by a roofline. A GPU's program is compiled without autotuning, which needs one: fusions,
layouts and collectives are the real ones, the algorithms of convolutions are not.

The settings are those of the network's config in configs/, in bfloat16; `sgd` means its base
optimizer alone. RandAugment and mixing are left out, unless --settings has a field of `augment`.
The batch is streamed. With --out, cases in the file are not compiled again.
"""

import argparse
import importlib.metadata
import itertools
import time
from typing import Any

import jax
from rich.console import Console

from benchmarks.compiled import tables
from benchmarks.compiled.program import compile_step, measure
from benchmarks.compiled.topologies import devices
from benchmarks.harness.arguments import Parser, one_message, positive
from benchmarks.harness.configs import read_config
from benchmarks.harness.processes import ROOT
from benchmarks.harness.results import read_records, write_json
from benchmarks.harness.train_step import method_section
from vasso_jax.data.datasets import IMAGENET_STATISTICS
from vasso_jax.train import check
from vasso_jax.train.plan import DataSpec

CONFIGS = {
    "vit_s32": "imagenet_vit_s32",
    "resnet50_imagenet": "imagenet_resnet50",
    "resnet18": "cifar10_resnet18",
    "wrn28_10": "cifar100_wrn28_10",
    "pyramidnet110": "cifar100_pyramidnet110",
    "vgg11_bn": "cifar10_vgg11_bn",
}
_REFUSED = {
    "fsdp": "give --fsdp",
    "batch_size": "give --per_device",
    "model.name": "give --models",
    "method.name": "give --methods",
    "data.name": "a network has its data set",
    "model.dtype": "the arithmetic is bfloat16",
    "deterministic": "which algorithms it takes, a compiler without a GPU cannot tell",
}
# The networks are compared without them.
_LEFT_OUT = {"policy", "operations", "magnitude", "mixup_alpha", "cutmix_alpha"}
# Training images, classes, size of an image, mean and standard deviation.
_CIFAR = ((0.5,) * 3, (0.25,) * 3)  # their values do not matter here
_SETS = {
    "imagenet2012": (1_281_167, 1000, 224, *IMAGENET_STATISTICS),
    "cifar10": (50_000, 10, 32, *_CIFAR),
    "cifar100": (50_000, 100, 32, *_CIFAR),
}


@one_message()
def main() -> None:
    """The command above."""
    options = _options()
    console = Console()
    out = options.out
    records = read_records(out)
    for topology, model, fsdp, method in itertools.product(
        options.topologies, options.models, options.fsdp, options.methods
    ):
        case = {
            "model": model,
            "method": method,
            "topology": topology,
            "fsdp": fsdp,
            "per_device": options.per_device,
            "settings": list(options.settings),
        }
        if any(case == {key: record.get(key, []) for key in case} for record in records):
            continue
        console.print(f"compiling {case} ...", highlight=False)
        records.append({**case, **_measure(**case)})
        if out:
            write_json(out, records)
    if options.markdown:
        print(tables.markdown(records, list(CONFIGS)), end="")
    else:
        Console(width=max(console.width, 120)).print(tables.table(records))


def _options() -> argparse.Namespace:
    parser = Parser(__doc__, out="JSON file of the cases")
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--topologies", nargs="+", required=True, metavar="h100:N|v5e:AxB")
    parser.add_argument("--methods", nargs="+", default=("sgd", "vasso"), metavar="METHOD")
    parser.add_argument("--fsdp", nargs="+", type=positive, default=(1,), metavar="N")
    parser.add_argument("--per_device", type=positive, default=128, help="images per device (128)")
    parser.add_argument(
        "--settings", nargs="+", default=(), metavar="FIELD=VALUE", help="of the config"
    )
    parser.add_argument("--markdown", action="store_true", help="a table of the documentation")
    options = parser.parse_args()
    names = [setting.partition("=")[0] for setting in options.settings]
    for name in names:
        if name in _REFUSED:
            parser.error(f"--settings {name} is not possible: {_REFUSED[name]}")
        if names.count(name) > 1:
            parser.error(f"--settings gives {name} twice")
    for topology in options.topologies:
        devices(topology)  # before anything is compiled
    return options


def _measure(
    model: str, method: str, topology: str, fsdp: int, per_device: int, settings: list[str]
) -> dict[str, Any]:
    own = devices(topology)
    name = method_section(method)["name"]
    file = f"--config={ROOT}/configs/{CONFIGS[model]}.py:{name}"
    config = read_config([file, *(f"--config.{setting}" for setting in settings)])
    if not any(setting.startswith("augment.") for setting in settings):
        for field in _LEFT_OUT.intersection(config.augment):
            del config.augment[field]
    config.fsdp = fsdp
    config.batch_size = per_device * len(own)
    config.model.dtype = "bfloat16"
    plan = check(config, devices=own)
    images, classes, size, mean, std = _SETS[plan.settings["data"]["name"]]
    begin = time.perf_counter()
    step = compile_step(plan, DataSpec(images, classes, (size, size, 3), mean, std))
    compiler = "jax-cuda12-plugin" if step.of_gpu else "libtpu"
    return {
        "devices": len(own),
        **measure(step),
        "seconds": round(time.perf_counter() - begin, 1),
        "jax": jax.__version__,
        compiler: importlib.metadata.version(compiler),
    }


if __name__ == "__main__":
    main()
