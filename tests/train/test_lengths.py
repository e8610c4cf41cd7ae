"""Records within epochs, checkpoints that are kept, finished runs that are given more epochs."""

import contextlib
import json

import numpy as np
import pytest

from tests.train.own_parts import Linear, config
from tests.train.test_validation import hard, without_times
from vasso_jax import data, load_run
from vasso_jax.runs import RunFolder, group_runs, read_run
from vasso_jax.train import DataError, UsageError, train
from vasso_jax.train.checkpoints.checkpoint import find_checkpoint
from vasso_jax.train.evaluation import evaluate

pytestmark = pytest.mark.slow

MODEL = Linear(2)


def fit(workdir, **fields):
    settings = {"method": {"name": "vasso"}, "epochs": 4} | fields  # of 4 steps
    return train(config(**settings), str(workdir), model=MODEL, dataset=hard())


@contextlib.contextmanager
def interrupted(monkeypatch, method):
    """Ctrl-C where the trainer calls its `method`, which ends the run inside."""

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"vasso_jax.train.loop.Trainer.{method}", die)
        with pytest.raises(KeyboardInterrupt):
            yield


def of(workdir, split):
    return [record for record in RunFolder(workdir).records() if record["split"] == split]


def test_steps_within_an_epoch_are_means_since_the_last_record(tmp_path):
    fit(tmp_path / "each", record_every_steps=1)
    fit(tmp_path / "third", record_every_steps=3)
    each, third = of(tmp_path / "each", "train_steps"), of(tmp_path / "third", "train_steps")
    assert [record["step"] for record in each] == list(range(1, 17))
    assert [record["step"] for record in third] == [3, 6, 9, 12, 15]
    assert [record["epoch"] for record in third] == [0, 1, 2, 3, 3]
    losses = [record["loss"] for record in each]
    for record in third:
        last = losses[record["step"] - 3 : record["step"]]
        np.testing.assert_allclose(record["loss"], np.mean(last), rtol=1e-5)
        assert record["lr"] == each[record["step"] - 1]["lr"]
        np.testing.assert_allclose(record["norm_over_rho"], 1, rtol=1e-3)
    # The epochs are as without; and it is the same experiment.
    fit(tmp_path / "none")
    for name in ("each", "third"):
        plain = [r for r in without_times(tmp_path / name) if r["split"] != "train_steps"]
        assert plain == without_times(tmp_path / "none")
    first = read_run(tmp_path / "each"), read_run(tmp_path / "none")
    with pytest.raises(ValueError, match="are the same run"):
        group_runs(first)


def test_killed_within_a_window_it_records_the_same(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    fields = {"record_every_steps": 3, "checkpoint_every_steps": 2}
    fit(tmp_path / "whole", **fields)
    for kill_at in (8, 12):

        def arrived(self, step, kill_at=kill_at):
            if step == kill_at:
                raise Killed
            return False

        with monkeypatch.context() as patch:
            patch.setattr("vasso_jax.train.devices.processes.StopRequests.arrived", arrived)
            with pytest.raises(Killed):
                fit(tmp_path / "killed", **fields)
    fit(tmp_path / "killed", **fields)
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "whole")


def test_every_nth_epoch_is_kept(tmp_path):
    fit(tmp_path, epochs=7, keep_every_epochs=3, keep_last=1)
    accuracies = [record["top1"] for record in of(tmp_path, "test")]
    best = max(range(7), key=lambda i: (accuracies[i], i))
    assert {*RunFolder(tmp_path).saved_steps()} == {12, 24, 28, 4 * (best + 1)}
    assert load_run(tmp_path, 12, model=MODEL).step == 12
    # They are there for good, so the run keeps the number, also when it is given more epochs.
    with pytest.raises(UsageError, match="keep_every_epochs=3 there, 0 here"):
        fit(tmp_path, epochs=8)
    fit(tmp_path, epochs=8, keep_every_epochs=3)
    assert {12, 24, 32} <= {*RunFolder(tmp_path).saved_steps()}


def test_a_finished_run_goes_on_with_the_schedule_of_its_new_length(tmp_path, capsys):
    fit(tmp_path / "run", epochs=2)
    before = without_times(tmp_path / "run")
    capsys.readouterr()
    result = fit(tmp_path / "run", epochs=5)
    assert (result["epochs"], result["steps"]) == (5, 20)
    rates = [record["lr"] for record in of(tmp_path / "run", "train")]
    # Cosine over 8 steps, then over 20.
    expected = [0.025 * (1 + np.cos(np.pi * t)) for t in (3 / 8, 7 / 8, 11 / 20, 15 / 20, 19 / 20)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert without_times(tmp_path / "run")[: len(before)] == before
    out = capsys.readouterr().out
    assert "extending the run from 2 to 5 epochs" in out
    assert f"goes on at {0.025 * (1 + np.cos(np.pi * 8 / 20)):.2g}, where it ended at" in out
    # It is not the run of 5 epochs from the start, and says so.
    fit(tmp_path / "whole", epochs=5)
    groups = group_runs(map(read_run, (tmp_path / "run", tmp_path / "whole")))
    assert [group.name for group in groups] == ["extended=[2]", "extended unset"]
    assert fit(tmp_path / "run", epochs=5) == result
    fit(tmp_path / "run", epochs=6)
    assert json.loads((tmp_path / "run/config.json").read_text())["extended"] == [2, 5]


def test_an_extension_that_did_not_begin_leaves_a_finished_run(tmp_path, monkeypatch):
    result = fit(tmp_path, epochs=2)
    with interrupted(monkeypatch, "_train_epoch"):
        fit(tmp_path, epochs=20)
    assert read_run(tmp_path).finished
    assert fit(tmp_path, epochs=2) == result
    assert fit(tmp_path, epochs=3)["epochs"] == 3
    assert json.loads((tmp_path / "config.json").read_text())["extended"] == [2]


def test_a_run_that_has_stopped_early_is_not_given_more(tmp_path):
    fields = {"validation": {"share": 0.25}, "base": {"name": "sgd", "lr": 1e-6}, "patience": 1}
    assert fit(tmp_path, **fields)["epochs"] == 2
    with pytest.raises(UsageError, match="has stopped, as its patience=1 was over: more epochs"):
        fit(tmp_path, epochs=9, **fields)


def test_a_split_for_validation_does_not_come_in_between(tmp_path):
    fit(tmp_path, epochs=2)
    images, labels = hard().train
    split = data.hold_out(hard(), data.Validation(0.25)).validation
    validated = data.from_arrays("hard", (images, labels), hard().test, validation=split)
    with pytest.raises(UsageError, match="validation_images=0 there, 16 here"):
        train(
            config(method={"name": "vasso"}, epochs=4),
            str(tmp_path),
            model=MODEL,
            dataset=validated,
        )


@pytest.mark.parametrize("kind", [1, 2])
def test_the_last_epoch_is_ranked_also_if_it_was_evaluated_later(tmp_path, monkeypatch, kind):
    """`kind` evaluations are made before the one that fails."""
    made, calls = {"epochs": kind, "base": {"name": "sgd", "lr": 1e-6}}, []
    if kind > 1:
        made["base"] = {"name": "sgd", "lr": 0.5}

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == kind:
            raise DataError("a damaged image")
        return evaluate(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("vasso_jax.train.loop.evaluate", failing)
        with pytest.raises(DataError):
            fit(tmp_path, **made)
    fit(tmp_path, **made)
    best = max(of(tmp_path, "test"), key=lambda record: (record["top1"], record["step"]))
    assert find_checkpoint(tmp_path, "best").name == str(best["step"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 3}, "epochs=4 there, 3 here"),
        ({"epochs": 5, "batch_size": 8}, "batch_size=16 there, 8 here; epochs=4 there, 5 here"),
    ],
)
def test_other_changes_of_a_finished_run_are_refused(tmp_path, fields, message):
    fit(tmp_path)
    with pytest.raises(UsageError, match=message):
        fit(tmp_path, **fields)


def test_a_run_that_has_not_finished_keeps_its_length(tmp_path, monkeypatch):
    with interrupted(monkeypatch, "_finish_epoch"):
        fit(tmp_path, checkpoint_every_steps=2)
    with pytest.raises(UsageError, match="epochs=4 there, 5 here"):
        fit(tmp_path, epochs=5, checkpoint_every_steps=2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"record_every_steps": 16}, "record_every_steps=16 has no effect: the run has 16 steps"),
        ({"keep_every_epochs": 4}, "keep_every_epochs=4 has no effect: the run has 4 epochs"),
        ({"keep_every_epochs": -1}, "keep_every_epochs must be >= 0"),
    ],
)
def test_what_has_no_effect_is_refused(tmp_path, fields, message):
    with pytest.raises(UsageError, match=message):
        fit(tmp_path / "run", **fields)
