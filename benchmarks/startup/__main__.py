"""Seconds from `python main.py` to the end of the first step, by stage.

    python -m benchmarks.startup [--config configs/digits_vasso.py] [--out FILE]

A separate process does what main.py does and times each stage: once with an empty cache of compiled
programs, then again with the cache that the first process filled. `before` is the start of the
interpreter. Reading CIFAR-10 or ImageNet is the stage `data`.
"""

import json
import pathlib
import tempfile
import time
from typing import Any

from benchmarks.harness.arguments import Parser, one_message
from benchmarks.harness.processes import ROOT, python
from benchmarks.harness.results import write_json


@one_message()
def main() -> None:
    """The command above."""
    parser = Parser(__doc__)
    default = str(ROOT / "configs" / "digits_vasso.py")
    parser.add_argument("--config", default=default, metavar="FILE[:METHOD]", help="experiment")
    options = parser.parse_args()
    # The processes run in the root of the clone.
    config = str(pathlib.Path(options.config).absolute())
    result: dict[str, Any] = {"config": pathlib.Path(config).name}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold", "cached"):
            variables = {
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",  # as main.py sets it
                "STARTED": str(time.time()),
            }
            arguments = ("-m", "benchmarks.startup.stages", f"--config={config}")
            stages = json.loads(python(*arguments, variables=variables))
            result[name] = {**stages, "total": round(sum(stages.values()), 3)}
    for stage in result["cold"]:
        print(f"{stage:24} {result['cold'][stage]:8.2f} {result['cached'][stage]:8.2f}")
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
