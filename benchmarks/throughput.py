"""What main.py keeps of the bare step's speed.

    python -m benchmarks.throughput --config=configs/cifar10_vasso.py [--config.FIELD=VALUE ...]
        [--rounds=3] [--steps=20] [--out=FILE]

In turn: `main.py` with these very flags, as a process of its own, with the images a second of its
records; and its compiled step alone, called again and again on the arguments of one batch. What
main.py's figure has in it beside the step: the feed, metrics, display and looking out for stop
requests. Compilation, evaluation and checkpoints are in neither.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two processes share the device

import jax
from absl import app, flags
from ml_collections import config_flags

from benchmarks.machine import describe

ROOT = pathlib.Path(__file__).absolute().parent.parent
_CONFIG = config_flags.DEFINE_config_file("config", None, "as for main.py")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "times in turn", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 20, "of the bare step in a round", lower_bound=1)
_OUT = flags.DEFINE_string("out", None, "JSON file to write")


def main(argv: list[str]) -> None:
    of_main = [argument for argument in sys.argv[1:] if argument.startswith("--config")]
    if len(argv) > 1 or _CONFIG.value is None:
        sys.exit("error: give the flags as --NAME=VALUE, --config=FILE among them")
    from vasso_jax.train.experiment import build

    try:
        experiment = build(_CONFIG.value)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    state = experiment.create_state()
    batch = next(experiment.feed.training(0))
    state = jax.block_until_ready(experiment.train_step(state, *batch))

    trained, bare = [], []
    for _ in range(_ROUNDS.value):
        trained.append(_speed_of_main(of_main))
        start = time.perf_counter()
        for _ in range(_STEPS.value):
            state = experiment.train_step(state, *batch)
        jax.block_until_ready(state)
        seconds = time.perf_counter() - start
        bare.append(_STEPS.value * experiment.batch_size / seconds)
    ratios = [one / other for one, other in zip(trained, bare, strict=True)]
    result = {
        "flags": [flag for flag in of_main if "data_dir" not in flag],
        "main_images_per_s": trained,
        "bare_images_per_s": bare,
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        **describe(),
    }
    if _OUT.value:
        path = pathlib.Path(_OUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("ratio", "ratio_min", "ratio_max")}))


def _speed_of_main(arguments: list[str]) -> float:
    """Median over the epochs of a new run."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, str(ROOT / "main.py"), *arguments, f"--workdir={workdir}/run"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        lines = pathlib.Path(workdir, "run", "metrics.jsonl").read_text().splitlines()
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return statistics.median(
        record["images_per_second"] for record in records if record["split"] == "train"
    )


if __name__ == "__main__":
    app.run(main)
