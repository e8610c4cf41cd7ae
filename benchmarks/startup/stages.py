"""The process that `python -m benchmarks.startup` starts: does what main.py does, and times it.

Takes main.py's `--config`, and the time of its own start from the environment (`STARTED`). Prints
the seconds of each stage as one JSON object.
"""

import json
import os
import sys
import time

_last = float(os.environ["STARTED"])
_stages: dict[str, float] = {}


def _done(stage: str) -> None:
    global _last
    now = time.time()
    _stages[stage], _last = round(now - _last, 3), now


def _main() -> None:
    _done("before")
    import jax

    _done("import jax")
    from vasso_jax.train import check, run

    del run  # main.py needs it
    _done("import vasso_jax.train")
    jax.devices()
    _done("devices")
    from benchmarks.harness.arguments import one_message
    from benchmarks.harness.configs import read_config

    with one_message():
        plan = check(read_config(sys.argv[1:]))
        _done("checks")
        experiment = plan.open(plan.source.load())
    _done("data")
    program = experiment.program
    state = jax.block_until_ready(program.create_state())
    _done("initial state")
    item = next(experiment.pipeline.training(0))
    _done("first batch")
    lowered = program.train_step.lower(state, item)
    _done("tracing the step")
    step = lowered.compile()
    _done("compiling the step")
    jax.block_until_ready(step(state, item))
    _done("first step")
    print(json.dumps(_stages))


if __name__ == "__main__":
    _main()
