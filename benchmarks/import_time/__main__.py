"""Time to import vasso_jax.optim over the time to import optax, each in fresh processes in turn.

python -m benchmarks.import_time [--rounds 15] [--out FILE]
"""

import json
import statistics
import time

from benchmarks.harness.arguments import Parser, one_message
from benchmarks.harness.processes import python
from benchmarks.harness.results import write_json
from benchmarks.harness.timing import in_turn, ratios


@one_message()
def main() -> None:
    """The command above."""
    options = Parser(__doc__, rounds=15).parse_args()
    # The warm-up call of each writes the bytecode and fills the file cache.
    seconds = in_turn(
        {module: lambda module=module: _seconds(module) for module in ("optax", "vasso_jax.optim")},
        options.rounds,
    )
    result = {
        "optax_seconds": round(statistics.median(seconds["optax"]), 3),
        "vasso_jax_optim_seconds": round(statistics.median(seconds["vasso_jax.optim"]), 3),
        "median_ratio": round(ratios(seconds["vasso_jax.optim"], seconds["optax"])["ratio"], 4),
        "rounds": options.rounds,
    }
    if options.out:
        write_json(options.out, result)
    print(json.dumps(result))


def _seconds(module: str) -> float:
    """Seconds that a fresh interpreter takes to import `module`."""
    time.sleep(0.1)
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return float(python("-c", code))


if __name__ == "__main__":
    main()
