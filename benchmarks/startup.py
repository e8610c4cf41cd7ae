"""Seconds from `python main.py` to the first step done, and where they go.

    python -m benchmarks.startup [--config configs/digits_vasso.py] [--out FILE]

A process of its own goes through what main.py does, with a clock at each stage: once with an empty
cache of compiled programs, then again with what the first one left there. `before` is the
interpreter's own start. The config has the synthetic or small data of its own; reading CIFAR-10 or
ImageNet is the stage `data`.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).absolute().parent.parent
_CHILD = """
import json, os, runpy, sys, time
stages, last = {}, float(os.environ["STARTED"])
def done(name):
    global last
    now = time.time()
    stages[name], last = round(now - last, 3), now
done("before")
import jax
done("import jax")
import vasso_jax.train
done("import vasso_jax.train")
jax.devices()
done("devices")
from vasso_jax.train.experiment import build
experiment = build(runpy.run_path(sys.argv[1])["get_config"](), lambda: done("checks"))
done("data")
state = jax.block_until_ready(experiment.create_state())
done("initial state")
batch = next(experiment.feed.training(0))
done("first batch")
lowered = experiment.train_step.lower(state, *batch)
done("tracing the step")
step = lowered.compile()
done("compiling the step")
jax.block_until_ready(step(state, *batch))
done("first step")
print(json.dumps(stages))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default=str(ROOT / "configs" / "digits_vasso.py"))
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    options = parser.parse_args()
    if not pathlib.Path(options.config).is_file():
        parser.error(f"there is no config file {options.config}")
    result: dict[str, Any] = {"config": pathlib.Path(options.config).name}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold", "cached"):
            environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
            environment |= {"STARTED": str(time.time()), "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-c", _CHILD, options.config]
            child = subprocess.run(command, env=environment, capture_output=True, text=True)
            if child.returncode:
                parser.error(f"{options.config}: {child.stderr.strip().splitlines()[-1]}")
            stages = json.loads(child.stdout)
            result[name] = {**stages, "total": round(sum(stages.values()), 3)}
    for stage in result["cold"]:
        print(f"{stage:24} {result['cold'][stage]:8.2f} {result['cached'][stage]:8.2f}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
