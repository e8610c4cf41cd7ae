"""vasso-jax sweep: its points, what it refuses, and a sweep that is stopped and in part fails."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests import runs
from tests.run_folder.written import SAM, VASSO, write_run, write_validated
from tests.train.networks import NAME
from vasso_jax.cli import sweep
from vasso_jax.runs import tables
from vasso_jax.train import check

CONFIG = f"""
from vasso_jax.train.presets import digits

def get_config(method="vasso"):
    config = digits(method)
    config.model.name = {NAME!r}
    config.epochs = 2
    config.checkpoint_every_steps = 3
    return config
"""
RADII = """
def sweep(add):
    for rho in (0.05, 0.1):
        add(**{"method.rho": rho})
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "small.py"
    file.write_text(CONFIG + RADII)
    return file


@pytest.fixture
def listed(capsys):
    """Runs `sweep --list` and returns its lines."""

    def run(*arguments):
        sweep.main([*map(str, arguments), "--list"])
        return capsys.readouterr().out.splitlines()

    return run


def test_the_list_has_every_point_and_an_index_runs_that_one(config, listed, monkeypatch):
    arguments = [f"--config={config}", "--methods=sgd,sam", "--seeds=2", "--config.epochs=5"]
    note, *lines = listed(*arguments)
    assert note == "method.rho is left out for none, without such a field"
    assert [line.split() for line in lines] == [
        ["0", "none_seed0", "seed=0"],
        ["1", "none_seed1", "seed=1"],
        ["2", "sam_rho0.05_seed0", "method.rho=0.05", "seed=0"],
        ["3", "sam_rho0.05_seed1", "method.rho=0.05", "seed=1"],
        ["4", "sam_rho0.1_seed0", "method.rho=0.1", "seed=0"],
        ["5", "sam_rho0.1_seed1", "method.rho=0.1", "seed=1"],
    ]
    started = []
    monkeypatch.setattr(sweep, "run_here", lambda *run: started.append(run))
    for index in range(6):
        sweep.main([*arguments, f"--index={index}", "--workdir=parent"])
    assert [folder for _, folder in started] == [f"parent/{line.split()[1]}" for line in lines]
    plans = [check(config).settings for config, _ in started]
    assert [plan["seed"] for plan in plans] == [0, 1] * 3
    assert [plan["method"].get("rho") for plan in plans] == [None, None, 0.05, 0.05, 0.1, 0.1]
    assert {plan["epochs"] for plan in plans} == {5}


def test_methods_keep_the_fields_of_their_presets(listed, monkeypatch):
    started = []
    monkeypatch.setattr(sweep, "run_here", lambda *run: started.append(run))
    arguments = [
        "--config=digits",
        "--methods=asam,vasso",
        "--set",
        "method.mask=matrices,normalization",
    ]
    assert len(listed(*arguments)) == 4
    for index in (0, 3):
        sweep.main([*arguments, f"--index={index}"])
    (asam, _), (vasso, folder) = started
    assert asam.method.to_dict() == {"name": "asam", "rho": 0.5, "mask": "matrices"}
    kept = {"name": "vasso", "rho": 0.1, "theta": 0.4}
    assert vasso.method.to_dict() == kept | {"mask": "normalization"}
    assert folder == "runs/digits_sweep/vasso_masknormalization"


def test_the_command_itself_takes_no_device():
    # As the processes that train could not have it then.
    process = start("--config=digits", "--methods=sam", "--list", JAX_PLATFORMS="none_such")
    assert runs.finish(process) == (0, "   0  sam\n", "")


def test_sections_of_the_method_are_left_out_with_what_they_act_on(listed):
    note, *lines = listed("--config=digits", "--methods=none,sam", "--set=window.end_epoch=1,2")
    assert note.startswith("window.end_epoch is left out for none")
    assert [line.split()[1] for line in lines] == ["none", "sam_end_epoch1", "sam_end_epoch2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "nothing is swept: give --seeds"),
        ("--set=epoch=1,2", "the config has no field 'epoch'. Did you mean epochs?"),
        ("--set=theta=1", "Did you mean --config.method.theta?"),
        ("--set=method=sam", "method is a section of the config"),
        ("--set=method.rho.x=1", "method.rho.x cannot be set"),
        ("--set=epochs=1,many", "epochs cannot be set to '1'"),
        ("--set=base.lr", "--set=base.lr: give values"),
        (f"--set=base.lr={'-' * 9999}1", "--set base.lr: its values are nested too deeply"),
        ("--set=base.lr= --seeds=2", "--set=base.lr=: give values"),
        ("--set=seed=1,2 --set=seed=3", "--set seed is given twice"),
        ("--set=seed=1,2 --seeds=2", "seed is swept, and --seeds is given"),
        ("--set=method.name=sam --methods=sam", "method.name is swept, and --methods is given"),
        ("--seeds=2 --config.seed=3", "seed is swept, and set by --config.seed"),
        ("--methods=sam --config.method.name=sam", "set by --config.method.name"),
        ("--set=base.lr=1,2 --config.base.lr=3", "base.lr is swept, and set by --config.base.lr"),
        ("--methods=sam,sgd,none", "none is there twice"),
        ("--methods=sam,", "--methods=sam,: give names"),
        ("--seeds=2 --index=2", "--index=2: the points are 0 to 1"),
        ("--seeds=2 --index=0 --jobs=2", "--jobs has no effect here"),
        ("--seeds=2 --epochs=3", "there is no flag --epochs. Did you mean --config.epochs?"),
        ("--seeds=2 --config.epochs=x", "--config.epochs=x"),
        ("--methods=vaso --set=method.rho=1", "Did you mean vasso"),
    ],
)
def test_a_wrong_command_is_one_message(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        sweep.main(["--config=digits", *arguments.split()])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err


def test_other_configs_than_these_are_refused(tmp_path, config, capsys):
    write_run(tmp_path / "run", 0.5)
    broken = tmp_path / "broken.py"
    broken.write_text("def get_config(: pass")
    for arguments, message in (
        ([f"--config={config}:sam", "--methods=vasso"], "and --methods say the same"),
        ([f"--config={broken}"], "the config file cannot be loaded: SyntaxError"),
        (["--config=digits_vasso", "--methods=sam"], "this config takes no method"),
        ([f"--config={config}", f"--workdir={tmp_path / 'run'}"], "is a run folder"),
    ):
        with pytest.raises(SystemExit):
            sweep.main([*arguments, "--list"])
        assert message in capsys.readouterr().err


def validated(folder, method, rho, seed, top1):
    return write_validated(
        folder, top1, best=0.5, last=0.25, method=method | {"rho": rho}, seed=seed
    )


def test_settings_are_chosen_where_there_is_a_validation_split(tmp_path, capsys):
    folders = [
        validated(tmp_path / f"{method['name']}{rho}", method, rho, 0, top1)
        for method, rho, top1 in ((SAM, 0.1, 0.5), (SAM, 0.2, 0.75), (VASSO, 0.1, 0.5))
    ]
    folders.append(validated(tmp_path / "again", VASSO, 0.1, 1, 0.5))
    sweep.print_choices(folders, ["method.rho"], complete=True)
    title, *table = capsys.readouterr().out.splitlines()
    assert title == "chosen on the validation split:"
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table if "│" in line]
    assert rows == [
        ["sam", "method.rho=0.2", "75.00", "50.00", "25.00", "1"],
        ["vasso", "method.rho=0.1", *("50.00 +- 0.00",) * 2, "25.00 +- 0.00", "2"],
    ]
    assert table[-1] == tables.SPREAD
    # Nothing to choose: one setting per method, or only seeds.
    sweep.print_choices(folders[1:], ["method.rho"], complete=True)
    sweep.print_choices(folders[1:], [], complete=False)
    assert capsys.readouterr().out == ""
    sweep.print_choices(folders, ["method.rho"], complete=False)
    assert capsys.readouterr().out == "no settings are chosen before all runs have finished\n"


def test_nothing_is_chosen_on_the_test_set(tmp_path, capsys):
    folders = [
        write_run(tmp_path / str(rho), 0.5, 0.5, method=SAM | {"rho": rho}) for rho in (0.1, 0.2)
    ]
    sweep.print_choices(folders, ["method.rho"], complete=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("no settings are chosen")
    assert line.endswith("by --config.validation.share=0.1")


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "vasso_jax", "sweep", *map(str, arguments)],
        cwd=runs.ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_and_a_failing_run_does_not_end_it(unbroken, tmp_path):
    config, parent = tmp_path / "small.py", tmp_path / "parent"
    # More images than there are, which is found when the data has been read.
    config.write_text(f"{CONFIG}\ndef sweep(add):\n    add(batch_size=5000)\n    add(seed=0)\n")
    command = [f"--config={config}", f"--workdir={parent}"]
    process = start(*command)
    while not runs.steps_saved(parent / "seed0"):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    status, out, err = runs.finish(process)
    assert (status, err) == (
        130,
        "stopped; the same command goes on with what the runs have saved\n",
    )
    assert "2 runs, 0 of them finished before" in out
    assert "[1/2] batch_size5000: failed: batch_size=5000 exceeds the 1438 training" in out
    saved = runs.steps_saved(parent / "seed0")[-1]
    assert saved < runs.TOTAL_STEPS

    status, out, err = runs.finish(start(*command))
    assert status == 2
    assert err.splitlines() == [
        "error: 1 of 2 runs failed:",
        "  batch_size5000: batch_size=5000 exceeds the 1438 training images",
    ]
    assert re.search(r"\[2/2\] seed0: test top-1 \d+\.\d\d %, \d+ s", out)
    assert "│ digits" in out  # the table, in which the failed run is not
    # The same steps as of the run by main.py that nobody stopped.
    assert runs.records(parent / "seed0") == runs.records(unbroken[0])
    ours, theirs = (
        json.loads((f / "config.json").read_text()) for f in (parent / "seed0", unbroken[0])
    )
    assert ours == theirs
