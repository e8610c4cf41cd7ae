"""The speed of main.py over that of its bare step.

    python -m benchmarks.throughput --config=configs/cifar10_vasso.py [--config.FIELD=VALUE ...]
        [--rounds 3] [--steps 20] [--out FILE]

Measures in turn: `main.py` with the same flags, in a separate process, by the images per second of
its records; and its compiled step alone, called repeatedly on one batch. Besides the step, the
figure of main.py includes the input pipeline, metrics, display and checks for stop requests.
Compilation, evaluation and checkpoints are in neither figure.
"""

import json
import os
import statistics
import tempfile

from benchmarks.harness.processes import SHARED_GPU

os.environ.update(SHARED_GPU)  # before JAX: main.py uses the device at the same time

import jax

from benchmarks.harness.arguments import Parser, one_message
from benchmarks.harness.configs import read_config
from benchmarks.harness.machine import describe
from benchmarks.harness.processes import python
from benchmarks.harness.results import write_json
from benchmarks.harness.timing import in_turn, ratios, timed
from vasso_jax.runs import RunFolder
from vasso_jax.train import check


@one_message()
def main() -> None:
    """The command above."""
    options, of_main = Parser(__doc__, rounds=3, steps=20).parse_known_args()
    plan = check(read_config(of_main))
    experiment = plan.open(plan.source.load())
    step = experiment.program.train_step
    item = next(experiment.pipeline.training(0))
    state = jax.block_until_ready(step(experiment.program.create_state(), item))

    def bare_steps() -> None:
        nonlocal state
        for _ in range(options.steps):
            state = step(state, item)
        jax.block_until_ready(state)

    seconds_per_step = timed(bare_steps, per=options.steps)
    images_per_s = in_turn(
        {
            "main": lambda: _speed_of_main(of_main),
            "bare": lambda: plan.options.batch_size / seconds_per_step(),
        },
        options.rounds,
        warm_up=False,  # main.py's records leave compilation out
    )
    result = {
        "flags": [flag for flag in of_main if "data.dir" not in flag],
        "main_images_per_s": images_per_s["main"],
        "bare_images_per_s": images_per_s["bare"],
        **ratios(images_per_s["main"], images_per_s["bare"]),
        **describe(),
    }
    if options.out:
        write_json(options.out, result)
    print(json.dumps({name: result[name] for name in ("ratio", "ratio_min", "ratio_max")}))


def _speed_of_main(arguments: list[str]) -> float:
    """Median over the epochs of a new run, in images per second."""
    with tempfile.TemporaryDirectory() as folder:
        python("main.py", *arguments, f"--workdir={folder}/run", variables=SHARED_GPU)
        records = RunFolder(f"{folder}/run").records()
    return statistics.median(
        record["images_per_second"] for record in records if record["split"] == "train"
    )


if __name__ == "__main__":
    main()
