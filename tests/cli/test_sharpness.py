"""The command that measures sharpness: what it prints, writes, keeps and refuses."""

import json
import os
import re
import shutil
import signal
import sys

import jax
import numpy as np
import pytest

from tests.measurement.untrained import write
from vasso_jax import load_run
from vasso_jax.cli import compare, sharpness
from vasso_jax.measurement import Ball, Found, Hessian, LossOptions, Trace, measure
from vasso_jax.runs import RunFolder, read_measurements, sharpness_tables
from vasso_jax.runs.sharpness import CAVEAT

FEW = ("--examples=24", "--batch_size=12")
FAST = ("--trace=4", *FEW)
LEAST = {"hessian": 1, "smallest": 1, "trace": 2, "examples": 1, "batch_size": 1, "seed": 0}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A folder with two seeds of one method. To be left as it is."""
    parent = tmp_path_factory.mktemp("untrained")
    for seed in (0, 1):
        write(parent / f"none{seed}", seed=seed)
    return parent


@pytest.fixture
def runs(parent, tmp_path):
    """A copy of it."""
    return shutil.copytree(parent, tmp_path / "runs")


def test_runs_below_a_folder_are_measured_and_shown(runs, tmp_path, capsys):
    out = tmp_path / "out.json"
    sharpness.main([str(runs), "--hessian=1", "--smallest=1", *FAST, f"--json={out}"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert [line.split(":")[0] for line in lines[:4]] == [
        *("[1/4] none0 hessian", "[2/4] none0 trace", "[3/4] none1 hessian", "[4/4] none1 trace")
    ]
    rows = [line.strip("│ ").split() for line in lines if line.startswith("│")]
    assert [row[0] for row in rows[:2]] == ["none0@22", "none1@22"]
    assert rows[2][0] == "digits"  # the name of the group
    assert lines[-3:] == [sharpness_tables.ERRORS, sharpness_tables.MEANS, CAVEAT]
    assert "+-" in rows[0]
    assert "+-" not in rows[2]
    assert any(cell.startswith("[") for cell in rows[2])
    # The figures are those from Python.
    options = LossOptions(examples=24, batch_size=12)
    found = measure(
        load_run(runs / "none0"), [Hessian(largest=1, smallest=1), Trace(samples=4)], options
    )
    assert found == read_measurements(RunFolder(runs / "none0").sharpness_path)
    shown = [f"{found[0].figures[name]:.4g}" for name in ("lambda_1", "lambda_min")]
    assert rows[0][2:5:2] == shown
    data = json.loads(out.read_text())
    assert data["runs"][0]["measurements"][1]["figures"] == found[1].figures
    (group,) = data["groups"]
    assert group["figures"]["trace"]["low"] < group["figures"]["trace"]["mean"]
    # And those that compare reads.
    compare.main([str(runs), "--metric=trace", f"--csv={tmp_path / 'out.csv'}"])
    row = (tmp_path / "out.csv").read_text().splitlines()[1]
    assert f",{found[1].figures['trace']}," in row


def test_the_same_command_measures_nothing_again(runs, capsys):
    command = [str(runs / "none0"), "--checkpoint=best", *FAST]
    sharpness.main(command)
    before = RunFolder(runs / "none0").sharpness_path.read_bytes()
    first = capsys.readouterr().out.splitlines()
    sharpness.main(command)
    again = capsys.readouterr().out.splitlines()
    assert again == ["1 measurements are there already", *first[1:]]
    assert RunFolder(runs / "none0").sharpness_path.read_bytes() == before
    assert "none0@11" in again[4]


def test_interrupted_it_keeps_what_is_finished(runs, capfd, monkeypatch):
    calls = []

    def trace(self, objective, params, progress):
        calls.append(self)
        progress(1, 2)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return Found({"trace": 1.0}, {})

    monkeypatch.setattr(Trace, "__call__", trace)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as end:
        sharpness.main([str(runs), *FAST])
    assert end.value.code == 130
    assert "stopped; 1 of 2 measurements are kept" in capfd.readouterr().err
    sharpness.main([str(runs), *FAST])
    out = capfd.readouterr().out
    assert out.startswith("1 measurements are there already\n[1/1] none1 trace: trace 1, ")
    assert len(calls) == 3


def test_by_default_it_measures_eigenvalues_and_the_trace(runs, monkeypatch):
    measured = []

    def record(self, objective, params, progress):
        measured.append(self)
        return Found({}, {})

    for kind in (Hessian, Trace):
        monkeypatch.setattr(kind, "__call__", record)
    sharpness.main([str(runs / "none0"), *FEW, "--seed=3"])
    assert measured == [Hessian(seed=3), Trace(seed=3)]
    sharpness.main([str(runs / "none0"), *FEW, "--hessian"])
    assert measured[2:] == [Hessian()]


def test_the_help_has_the_defaults(capsys):
    with pytest.raises(SystemExit):
        sharpness.main(["--help"])
    text = capsys.readouterr().out
    loss = LossOptions()
    for default in (Hessian().largest, Trace().samples, loss.examples, loss.batch_size):
        assert f"default: {default:d}" in text
    for default in (Ball(radius=1).norm, loss.split, loss.batch_stats, loss.seed):
        assert f"default: {default}" in text


def test_what_is_left_out_is_said_each_time(runs, capsys, monkeypatch):
    found = Found({"lambda_1": 1.0}, {"notes": ["lambda_min is left out: 0"]})
    monkeypatch.setattr(Hessian, "__call__", lambda *_: found)
    for _ in range(2):
        sharpness.main([str(runs / "none0"), "--hessian=1", "--smallest=1", *FEW])
        assert "\nnone0: lambda_min is left out: 0\n" in capsys.readouterr().out


def test_what_is_there_is_all_that_is_taken(runs, capsys, monkeypatch):
    monkeypatch.setattr(Trace, "__call__", lambda *_: Found({"trace": 1.0}, {}))
    folder = runs / "none1"
    shutil.rmtree(folder / "checkpoints")
    sharpness.main([str(runs), "--trace=4", "--split=test"])
    out = capsys.readouterr().out
    assert f"left out, no checkpoint yet: {folder}" in out
    assert "all 359 test images are taken: there are no more" in out
    (made,) = read_measurements(RunFolder(runs / "none0").sharpness_path)
    assert made.settings["loss"]["examples"] == 359
    # Named by itself, it is an error.
    with pytest.raises(SystemExit):
        sharpness.main([str(folder), "--trace=4"])
    assert f"{folder} has no checkpoint in" in capsys.readouterr().err


def test_with_statistics_of_the_batch_whole_batches_are_measured(runs, capsys, monkeypatch):
    def count(self, objective, params, progress):
        assert (objective.weights == 1).all()
        return Found({"trace": float(objective.weights.sum())}, {})

    monkeypatch.setattr(Trace, "__call__", count)
    command = [str(runs / "none0"), "--split=test", "--trace", "--batch_stats=batch"]
    for options, size, note in (
        (["--examples=20", "--batch_size=8"], 16, "16 test images are taken: whole batches of 8"),
        (["--examples=999", "--batch_size=400"], 359, "all 359 test images are taken"),
    ):
        sharpness.main([*command, *options])
        assert capsys.readouterr().out.count(note) == 1
        made = read_measurements(RunFolder(runs / "none0").sharpness_path)[-1]
        assert made.settings["loss"]["examples"] == made.figures["trace"] == size


@pytest.mark.slow
def test_pictures_are_drawn(runs, capsys):
    folder = RunFolder(runs / "none0")
    sharpness.main([str(folder.path), "--density", "--slice=1d", "--batch_stats=batch", *FEW])
    out = capsys.readouterr().out
    for path in (folder.density_path, folder.slice_path):
        assert f"drew {path}" in out
        assert path.read_bytes().startswith(b"\x89PNG")


def _damaged(runs):
    RunFolder(runs / "none1").sharpness_path.write_text("[")
    return [str(runs)], r"sharpness.json is damaged .*: delete it to measure again"


def _not_finite(runs):
    folder = write(runs / "diverged", factor=np.float32("nan"))
    return [str(folder)], "the checkpoint .*diverged/checkpoints/22 is damaged: its weights are not"


def _twice(runs):
    shutil.copytree(runs / "none0", runs / "copy")
    return [str(runs)], "are the same run"


def test_a_run_that_cannot_be_measured_does_not_stop_the_others(runs, capsys):
    shutil.rmtree(runs / "none0/checkpoints/22/state")
    with pytest.raises(SystemExit) as end:
        sharpness.main([str(runs), *FAST])
    out, err = capsys.readouterr()
    assert end.value.code == 2
    assert re.search(r"the checkpoint .*none0/checkpoints/22", err)
    assert len(err.splitlines()) == 1
    assert "none1@22" in out
    assert "none0@22" not in out


def test_a_lack_of_memory_does_not_stop_the_others(runs, capsys, monkeypatch):
    def trace(self, objective, params, progress):
        if not made:
            made.append(self)
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nBuffers: ...")
        return Found({"trace": 1.0}, {})

    made = []
    monkeypatch.setattr(Trace, "__call__", trace)
    with pytest.raises(SystemExit):
        sharpness.main([str(runs), *FAST])
    out, err = capsys.readouterr()
    assert err == f"error: {runs / 'none0'}: trace: RESOURCE_EXHAUSTED: Out of memory\n"
    assert "none1 trace: trace 1, " in out


def test_a_checkpoint_can_be_named_with_its_run(runs, capsys):
    sharpness.main([f"{runs}/none0@best", *FAST])
    assert "none0@11" in capsys.readouterr().out


@pytest.mark.parametrize(
    "make",
    [
        *(_damaged, _not_finite, _twice),
        lambda runs: ([str(runs / "nothing")], "is not a run folder"),
        lambda runs: ([str(runs), "--checkpoint=5"], "has no checkpoint of step 5, only of 11, 22"),
        lambda runs: (["{runs}/none0@best", "--checkpoint=best"], "both name a checkpoint"),
        lambda runs: (
            [str(runs), "--checkpoint=worst"],
            "argument --checkpoint: must be last, best or a step, got 'worst'",
        ),
        lambda runs: ([str(runs), "--split=validation"], "none0 has no validation split"),
        lambda runs: (
            [str(runs), "--split=trian"],
            "there is no split 'trian'. Did you mean train?",
        ),
        *(
            lambda runs, option=option, least=least: (
                [str(runs), "--hessian", f"--{option}={least - 1}"],
                f"argument --{option}: must be an integer of at least {least}, got '{least - 1}'",
            )
            for option, least in LEAST.items()
        ),
        lambda runs: (
            [f"{runs}/none0", "--hessian=90", "--smallest=5", *FEW],
            "none0: hessian: 90 largest and 5 smallest eigenvalues are more than there are, 94,",
        ),
        lambda runs: ([str(runs), "--adaptive"], "--adaptive has no effect without --ball"),
        lambda runs: ([str(runs), "--per_batch"], "--per_batch has no effect without --ball"),
        lambda runs: (
            [str(runs), "--trace=4", "--smallest=1"],
            "--smallest has no effect without --hessian",
        ),
        lambda runs: (
            [f"{runs}/none0", "--slice=1d"],
            "none0: a slice needs batch_stats=batch, as the",
        ),
        lambda runs: ([str(runs), "--ball=1", "--norm=l1"], "there is no norm 'l1'"),
        lambda runs: ([str(runs), "--ball=wide"], "argument --ball: must be numbers > 0, such as"),
        lambda runs: ([str(runs), "--ball=1e300"], "a radius of the ball must be a number > 0"),
        lambda runs: ([str(runs), "--json={runs}"], "must be a file in a folder that exists"),
    ],
)
def test_what_it_refuses(runs, make, capsys):
    arguments, message = make(runs)
    with pytest.raises(SystemExit) as end:
        sharpness.main([argument.format(runs=runs) for argument in arguments])
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert re.search(message, err)
    assert len(err.splitlines()) == 1 or "usage" in err
    assert not RunFolder(runs / "none0").sharpness_path.exists()
