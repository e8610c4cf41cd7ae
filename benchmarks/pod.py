"""What a TPU pod would do in a train step: the trainer's own, compiled for one without having any.

    python -m benchmarks.pod [--models resnet50_imagenet ...] [--topologies v5e:2x2 ...]
        [--methods sgd vasso] [--fsdp 1 4] [--per_device 128] [--out pod.json]

The compiler comes with libtpu (pip install -e '.[tpu]') and needs no TPU. Of each case, one
device's share of the compiled program: FLOPs, bytes that it moves to and from memory, memory that
it needs, and what it exchanges with other devices. With --out, cases that the file holds are not
compiled again. The settings are those of configs/imagenet_resnet50.py and imagenet_vit_s32.py; the
batch is streamed.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import itertools
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from rich.console import Console
from rich.table import Table
from vasso_jax.train.experiment import create_model, create_optimizer
from vasso_jax.train.mesh import batch_sharding, make_mesh, with_shardings

from benchmarks.collectives import collectives
from vasso_jax import data
from vasso_jax.train.schedules import make_schedule
from vasso_jax.train.state import create_state, state_shardings
from vasso_jax.train.step import make_train_step

CONFIGS = {"vit_s32": "imagenet_vit_s32", "resnet50_imagenet": "imagenet_resnet50"}
TOPOLOGIES = ("v5e:2x2", "v5e:4x4", "v5e:16x16")
TRAINING_IMAGES, CLASSES = 1_281_167, 1000
# What vasso_jax.data normalises ImageNet by.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def compile_step(
    config: Any,
    devices: Sequence[jax.Device],
    image_shape: tuple[int, int, int],
    classes: int,
    training_images: int,
) -> jax.stages.Compiled:
    """The train step of an experiment with a streamed batch, compiled for `devices`.

    Args:
        config: an ml_collections.ConfigDict with the fields of configs/default.py.
        devices: those of this machine, or of a topology that nobody has.
        image_shape: (H, W, C).
        classes: of the data set.
        training_images: of the data set; sets the length of the schedule.
    """
    mesh = make_mesh(config.fsdp, devices)
    model = create_model(config, classes)
    schedule = make_schedule(
        config.schedule,
        lr=config.lr,
        final_lr=config.final_lr,
        epochs=config.epochs,
        warmup_epochs=config.warmup_epochs,
        steps_per_epoch=training_images // config.batch_size,
        milestones=config.milestones,
        decay_factor=config.decay_factor,
    )
    tx, _ = create_optimizer(config, schedule)
    augmentation = data.Augmentation(
        crop_padding=config.crop_padding,
        flip=config.flip,
        cutout_size=config.cutout_size,
        cutout_probability=config.cutout_probability,
    )
    step: Any = make_train_step(
        model,
        tx,
        take_batch=lambda images, labels, step: (images, labels),
        augment=partial(data.augment, options=augmentation, mean=MEAN, std=STD),
        label_smoothing=config.label_smoothing,
        batch_stats=config.batch_stats,
        seed=config.seed,
        mesh=mesh,
    )
    shapes = jax.eval_shape(partial(create_state, model, tx, image_shape, config.seed))
    state = with_shardings(shapes, state_shardings(shapes, mesh))
    split = batch_sharding(mesh)
    images = jax.ShapeDtypeStruct((config.batch_size, *image_shape), jnp.uint8, sharding=split)
    labels = jax.ShapeDtypeStruct((config.batch_size,), jnp.int32, sharding=split)
    return step.lower(state, images, labels).compile()


def measure(compiled: jax.stages.Compiled) -> dict[str, Any]:
    """What the compiler says of one device's share; all but `flops` in bytes or counts."""
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


def main() -> None:
    options = _options()
    # Neither is there a TPU, nor a server that knows of one.
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    jax.config.update("jax_platforms", "cpu")
    console = Console()
    out = options.out
    records = json.loads(out.read_text()) if out and out.exists() else []
    wanted = list(
        itertools.product(options.topologies, options.models, options.fsdp, options.methods)
    )
    for topology, model, fsdp, method in wanted:
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
        devices = _devices(topology)
        config = importlib.import_module(f"configs.{CONFIGS[model]}").get_config(method)
        config.fsdp = fsdp
        config.batch_size = options.per_device * len(devices)
        image_shape = (config.image_size, config.image_size, 3)
        begin = time.perf_counter()
        try:
            compiled = compile_step(config, devices, image_shape, CLASSES, TRAINING_IMAGES)
        except ValueError as error:
            _fail(str(error))
        seconds = round(time.perf_counter() - begin, 1)
        versions = {"jax": jax.__version__, "libtpu": importlib.metadata.version("libtpu")}
        records.append(
            {**case, "devices": len(devices), **measure(compiled), "seconds": seconds, **versions}
        )
        if out:
            out.write_text(json.dumps(records, indent=1) + "\n")
    if options.markdown:
        print(markdown(records), end="")
    else:
        console.print(_table(records))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pod")
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--topologies", nargs="+", default=TOPOLOGIES, metavar="v5e:AxB")
    parser.add_argument("--methods", nargs="+", default=("sgd", "vasso"), metavar="METHOD")
    parser.add_argument("--fsdp", nargs="+", type=int, default=(1, 4), metavar="N")
    parser.add_argument("--per_device", type=int, default=128, help="images of a batch")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file of the cases")
    parser.add_argument("--markdown", action="store_true", help="the table for docs/scaling.md")
    return parser.parse_args()


def _devices(topology: str) -> Sequence[jax.Device]:
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except RuntimeError as error:
        if importlib.util.find_spec("libtpu") is None:
            _fail("the compiler for TPUs is missing: pip install -e '.[tpu]'")
        _fail(f"the TPU compiler gives no topology {topology!r}: {str(error).splitlines()[0]}")
    return found.devices


def _table(records: list[dict[str, Any]]) -> Table:
    table = Table(title="one device's share of a train step")
    for column in ("chips", "model", "method", "fsdp", "TFLOP", "GB moved", "state and batch, MB"):
        table.add_column(column, justify="right")
    for column in ("temporaries, MB", "exchanged: operations, arrays, MB", "compiled in s"):
        table.add_column(column, justify="right")
    for record in records:
        exchanged = (
            f"{kind} {total['operations']}, {total['arrays']}, {total['bytes'] / 1e6:.2f}"
            for kind, total in record["collectives"].items()
        )
        table.add_row(
            *(str(record[key]) for key in ("devices", "model", "method", "fsdp")),
            f"{record['flops'] / 1e12:.4f}",
            f"{record['bytes_accessed'] / 1e9:.2f}",
            f"{record['memory']['arguments'] / 1e6:.1f}",
            f"{record['memory']['temporaries'] / 1e6:.0f}",
            "\n".join(exchanged),
            f"{record['seconds']:.0f}",
        )
    return table


def markdown(records: list[dict[str, Any]]) -> str:
    """The table of docs/scaling.md."""
    columns = (
        *("chips", "network", "method", "fsdp", "TFLOP", "GB moved"),
        *("arguments, MB", "temporaries, MB", "all-reduce", "all-gather", "reduce-scatter"),
    )
    lines = [columns, ("---",) * len(columns)]
    for record in sorted(records, key=_place):
        memory, exchanged = record["memory"], record["collectives"]
        kinds = (exchanged.get(kind) for kind in columns[-3:])
        cells = (
            *(str(record[key]) for key in ("devices", "model", "method", "fsdp")),
            f"{record['flops'] / 1e12:.3f}",
            f"{record['bytes_accessed'] / 1e9:.1f}",
            *(f"{memory[part] / 1e6:.0f}" for part in ("arguments", "temporaries")),
            *(f"{x['operations']} / {x['bytes'] / 1e6:.1f}" if x else "-" for x in kinds),
        )
        lines.append(cells)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _place(record: dict[str, Any]) -> tuple[Any, ...]:
    model = list(CONFIGS).index(record["model"])
    return model, record["fsdp"], record["devices"], record["method"]


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
