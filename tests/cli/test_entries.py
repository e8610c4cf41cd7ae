"""The entries of the command line: in processes of their own."""

import pathlib
import signal
import subprocess
import sys

import pytest

from tests.run_folder.written import write_two_methods

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


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "{runs}", "--csv={runs}/runs.csv"],
        ["sweep", "--config=digits:sam", "--seeds=3", "--list"],
        ["train", "--help"],
    ],
)
def test_a_reader_that_goes_away_ends_a_command_without_a_word(arguments, tmp_path):
    write_two_methods(tmp_path)
    command = [sys.executable, "-m", "vasso_jax", *(a.format(runs=tmp_path) for a in arguments)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE
    assert (tmp_path / "runs.csv").exists() == (arguments[0] == "compare")
