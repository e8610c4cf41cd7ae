"""Time to import vasso_jax.optim over the time to import optax, each in fresh processes in turn.

python -m benchmarks.import_time
"""

import json
import statistics
import subprocess
import sys
import time

ROUNDS = 15


def seconds(module: str) -> float:
    """Time that a fresh interpreter takes to import `module`."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    return float(output)


def main() -> None:
    modules = ("optax", "vasso_jax.optim")
    times: dict[str, list[float]] = {module: [] for module in modules}
    seconds("vasso_jax.optim")  # writes the bytecode, reads the files
    for _ in range(ROUNDS):
        for module in modules:
            times[module].append(seconds(module))
            time.sleep(0.1)
    ratios = [ours / theirs for theirs, ours in zip(*times.values(), strict=True)]
    print(
        json.dumps(
            {
                "optax_seconds": round(statistics.median(times["optax"]), 3),
                "vasso_jax_optim_seconds": round(statistics.median(times["vasso_jax.optim"]), 3),
                "median_ratio": round(statistics.median(ratios), 4),
                "rounds": ROUNDS,
            }
        )
    )


if __name__ == "__main__":
    main()
