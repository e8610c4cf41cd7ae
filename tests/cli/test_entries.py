"""The entries of the command line: in processes of their own."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.run_folder.written import write_two_methods
from vasso_jax.cli.interruption import Interruptible

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


@pytest.mark.parametrize("entry", ENTRIES)
def test_interrupted_while_a_command_is_loaded_it_ends_in_one_line(entry):
    interrupt = "os.kill(os.getpid(), signal.SIGINT)"
    code = f"""
import importlib, os, signal, sys
importlib.import_module = lambda name: {interrupt}
{ENTRIES[entry]}
"""
    command = [sys.executable, "-c", code, "--config=digits:sam"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted\n")


def test_nothing_that_takes_time_loads_before_an_interrupt_is_handled():
    code = "import sys; import vasso_jax.cli.main; print(*sys.modules)"
    # -S: without what an environment loads for itself.
    command = [sys.executable, "-S", "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {*loaded.split()} & {"signal", "enum", "typing", "argparse", "collections"}


def test_what_has_to_tidy_up_is_interrupted_by_an_exception():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), Interruptible():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
