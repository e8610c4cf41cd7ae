"""Which compiled programs the trainer keeps, and where."""

import os
import subprocess
import sys

import pytest

REPORT = """
import jax
from vasso_jax.train.devices.compiled_programs import keep_compiled_programs
keep_compiled_programs()
print(jax.config.jax_persistent_cache_min_compile_time_secs)
print(jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.slow
@pytest.mark.parametrize("own_folder", [False, True])
@pytest.mark.parametrize(("own_seconds", "seconds"), [(None, 0.1), ("3", 3)])
def test_what_compiles_in_a_tenth_of_a_second_is_kept_unless_told_otherwise(
    own_folder, own_seconds, seconds, tmp_path
):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {"HOME": str(tmp_path / "home"), "JAX_PLATFORMS": "cpu"}
    if own_seconds:
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = own_seconds
    if own_folder:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "own")
    command = [sys.executable, "-c", REPORT]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    kept_seconds, folder = ended.stdout.split()
    assert float(kept_seconds) == seconds
    expected = tmp_path / ("own" if own_folder else "home/.cache/vasso_jax")
    assert folder.startswith(str(expected))
