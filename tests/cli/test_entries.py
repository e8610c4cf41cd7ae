"""The entries of the command line where only the optimizers are installed."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
ENTRIES = {
    "main.py": "import runpy; runpy.run_path('main.py', run_name='__main__')",
    "vasso-jax": "sys.argv[1:1] = ['train']; from vasso_jax.cli.main import main; main()",
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_without_the_extra_the_trainer_says_what_to_install(entry):
    without = f"import sys; sys.modules['ml_collections'] = None; {ENTRIES[entry]}"
    command = [sys.executable, "-c", without, "--config=digits:sam"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: vasso-jax train needs more than the optimizers")
    assert line.endswith("pip install 'vasso_jax[train]'")
