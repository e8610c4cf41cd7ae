"""A run whose checkpoints are damaged goes on from one that is whole, to the same bits."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import runs
from tests.train.checkpoints.test_healing import flip
from tests.train.test_validation import fit, without_times
from vasso_jax.runs import RunFolder, read_run
from vasso_jax.train import UsageError
from vasso_jax.train.errors import SilentCorruption
from vasso_jax.train.loop import Trainer
from vasso_jax.train.recheck import RecheckedStep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Killed(BaseException):
    pass


@pytest.fixture(autouse=True)
def written_every_epoch(monkeypatch):
    monkeypatch.setattr("vasso_jax.train.checkpoints.pacing._SECONDS_BETWEEN_WRITES", 0.0)


def fit_until(workdir, monkeypatch, method, epochs):
    """The run, killed at the call of a method of the trainer after so many epochs."""
    original = getattr(Trainer, method)

    def die(self, *args):
        if len([r for r in self._records.records if r["split"] == "train"]) == epochs:
            raise Killed
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, method, die)
        with pytest.raises(Killed):
            fit(workdir)


def of_healing(workdir):
    return [r for r in RunFolder(workdir).records() if r["split"] == "healed"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    fit(workdir)
    return workdir


def assert_same_arrays(workdir, whole, step):
    arrays, expected = (runs.checkpoint(folder, step) for folder in (workdir, whole))
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_damaged_checkpoints_cost_no_bit_of_the_run(whole, tmp_path, monkeypatch, capsys):
    fit_until(tmp_path, monkeypatch, "_train_epoch", 5)
    newest = RunFolder(tmp_path).saved_steps()[-3:]
    steps_per_epoch = newest[-1] // 5
    for step in newest[1:]:
        flip(tmp_path / f"checkpoints/{step}")
    capsys.readouterr()
    fit(tmp_path)
    out = capsys.readouterr().out
    assert "warning: damaged checkpoints were put aside" in out
    aside = [f"{step}.damaged" for step in newest[:0:-1]]
    (record,) = of_healing(tmp_path)
    assert (record["step"], record["epoch"], record["put_aside"]) == (newest[0], 3, aside)
    assert all((tmp_path / "checkpoints" / name / "state").is_dir() for name in aside)
    records = [r for r in without_times(tmp_path) if r["split"] != "healed"]
    assert records == without_times(whole)
    assert_same_arrays(tmp_path, whole, 8 * steps_per_epoch)
    assert read_run(tmp_path).finished
    # Two epochs had to be made again, and nothing else.
    lost = [r["lost_seconds"] for r in RunFolder(tmp_path).records() if r["split"] == "train"]
    assert lost[:3] == [0, 0, 0]
    assert lost[3:] == [lost[-1]] * 5
    assert lost[-1] > 0
    assert " % lost (of " in out


def test_a_flipped_bit_ends_a_run_that_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch):
    calls = []

    def flipping(program, every):
        def train_step(state, item):
            calls.append(item)
            state = program.train_step(state, item)
            if len(calls) < 14 + 14 // 2:
                return state
            # In the second computation of step 14, of epoch 5.
            kernel = state.params["Dense_0"]["kernel"]
            bits = jax.lax.bitcast_convert_type(kernel, jnp.uint32).at[3, 1].add(1)
            kernel = jax.lax.bitcast_convert_type(bits, jnp.float32)
            params = {**state.params, "Dense_0": {**state.params["Dense_0"], "kernel": kernel}}
            return state.replace(params=params)

        return RecheckedStep(dataclasses.replace(program, train_step=train_step), every)

    with monkeypatch.context() as patch:
        patch.setattr("vasso_jax.train.loop.RecheckedStep", flipping)
        with pytest.raises(SilentCorruption, match=r"^step 14 .* \(params/Dense_0/kernel; on"):
            fit(tmp_path, recheck_every_steps=2)
    assert RunFolder(tmp_path).saved_steps()[-1] == 12
    fit(tmp_path, recheck_every_steps=1)
    assert without_times(tmp_path) == without_times(whole)
    assert_same_arrays(tmp_path, whole, 24)


def test_a_run_without_a_whole_checkpoint_stops_as_it_is(tmp_path, monkeypatch):
    fit_until(tmp_path, monkeypatch, "_train_epoch", 3)
    steps = RunFolder(tmp_path).saved_steps()
    for step in steps:
        flip(tmp_path / f"checkpoints/{step}")
    lines = (tmp_path / "metrics.jsonl").read_text()
    for _ in range(2):
        with pytest.raises(UsageError, match=r"no checkpoint in \S+ is whole: bring a copy back"):
            fit(tmp_path)
    assert RunFolder(tmp_path).saved_steps() == steps
    assert (tmp_path / "metrics.jsonl").read_text() == lines


def test_a_damaged_best_checkpoint_leaves_the_next_best_to_be_tested(
    whole, tmp_path, monkeypatch, capsys
):
    fit_until(tmp_path, monkeypatch, "_finish", 8)
    best = read_run(whole).best_epoch
    saved = RunFolder(tmp_path).saved_steps()
    step = saved[-1] // 8 * best
    flip(tmp_path / f"checkpoints/{step}")
    capsys.readouterr()
    fit(tmp_path)  # the newest is whole
    assert f"{step}.damaged" in capsys.readouterr().out
    run = read_run(tmp_path)
    accuracies = {r["epoch"]: r["top1"] for r in run.validations if r["step"] in saved}
    accuracies.pop(best)
    assert run.best_epoch == max(accuracies, key=lambda epoch: (accuracies[epoch], epoch))
    assert of_healing(tmp_path)[0]["put_aside"] == [f"{step}.damaged"]
    assert json.dumps(without_times(tmp_path)[:16]) == json.dumps(without_times(whole)[:16])
