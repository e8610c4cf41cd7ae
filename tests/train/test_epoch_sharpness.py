"""The sharpness that a run records of its epochs, which changes nothing else of it."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests import runs
from tests.train.own_parts import Linear, config
from tests.train.test_lengths import interrupted
from tests.train.test_validation import hard, without_times
from vasso_jax import data, load_run
from vasso_jax.runs import RunFolder, group_runs, read_run
from vasso_jax.sharpness import eigenvalues, hessian, trace
from vasso_jax.train import check, epoch_sharpness, train
from vasso_jax.train.epoch_sharpness import EpochSharpness
from vasso_jax.train.objective import network_loss

MODEL = Linear(2)
# A method with a state of its own, and an average of the weights.
FIELDS = {"method": {"name": "vasso"}, "epochs": 4, "ema_decay": 0.5, "keep_every_epochs": 2}


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(epoch_sharpness, "EXAMPLES", 24)
    monkeypatch.setattr(epoch_sharpness, "PROBES", 4)


def fit(workdir, **fields):
    return train(config(**FIELDS | fields), str(workdir), model=MODEL, dataset=hard())


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run that is measured after the second and the fourth epoch."""
    workdir = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epoch_sharpness, "EXAMPLES", 24)
        patch.setattr(epoch_sharpness, "PROBES", 4)
        fit(workdir, sharpness_every_epochs=2)
    return workdir


@pytest.mark.slow
def test_the_figures_are_those_of_the_weights_of_the_epoch(measured):
    run = read_run(measured)
    assert [(r["epoch"], r["step"]) for r in run.sharpness] == [(2, 8), (4, 16)]
    whole = hard()
    images = data.draw(whole, "train", 24, 0)
    for record in run.sharpness:
        weights = load_run(measured, record["step"], average=False, model=MODEL)
        objective, params = network_loss(
            MODEL, weights.variables, images, whole.mean, whole.std, batch_size=100
        )
        operator = hessian(objective, params)
        largest = eigenvalues(operator, tolerance=1e-4).values[0]
        assert record["lambda_1"] == pytest.approx(largest, rel=0.02)
        assert record["trace"] == pytest.approx(trace(operator, 4, seed=0).value, rel=1e-4)


@pytest.mark.slow
def test_it_changes_nothing_else_of_a_run(measured, tmp_path):
    fit(tmp_path)
    rest = [record for record in without_times(measured) if record["split"] != "sharpness"]
    assert rest == without_times(tmp_path)
    ours, theirs = (runs.checkpoint(workdir, 16) for workdir in (measured, tmp_path))
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])
    # And it is the same experiment.
    with pytest.raises(ValueError, match="are the same run"):
        group_runs(map(read_run, (measured, tmp_path)))


@pytest.mark.slow
def test_interrupted_it_records_the_same(measured, tmp_path, monkeypatch):
    for method in ("_measured", "_save"):  # before the record, and after it
        workdir = tmp_path / method
        with interrupted(monkeypatch, method):
            fit(workdir, sharpness_every_epochs=2)
        fit(workdir, sharpness_every_epochs=2)
        assert without_times(workdir) == without_times(measured)


@pytest.mark.slow
def test_what_cannot_be_measured_is_a_warning(tmp_path, monkeypatch, capsys):
    errors = [
        ValueError("none has converged"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nBuffers: ..."),
    ]

    def fail(self, state):
        raise errors.pop()

    monkeypatch.setattr(EpochSharpness, "measure", fail)
    fit(tmp_path, sharpness_every_epochs=2)
    out = capsys.readouterr().out
    for reason in ("none has converged", "RESOURCE_EXHAUSTED: Out of memory"):
        assert f"the sharpness could not be measured: {reason}" in out
    assert "Buffers" not in out
    assert not errors
    assert not read_run(tmp_path).sharpness
    assert (RunFolder(tmp_path).curves_path).exists()


@pytest.mark.slow
def test_weights_over_several_devices_are_measured_alike():
    state = check(config(), model=MODEL, dataset=hard()).open(hard()).program.create_state()
    kernel = state.params["Dense_0"]["kernel"]
    over = NamedSharding(kernel.sharding.mesh, PartitionSpec("data"))
    dense = state.params["Dense_0"] | {"kernel": jax.device_put(kernel, over)}
    spread = state.replace(params=state.params | {"Dense_0": dense})
    first, second = (EpochSharpness(MODEL, hard()).measure(each) for each in (spread, state))
    assert first == second


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sharpness_every_epochs": 5}, "sharpness_every_epochs=5 has no effect: the run has 4"),
        ({"sharpness_every_epochs": -1}, "sharpness_every_epochs must be >= 0, got -1"),
        (
            {"sharpness_every_epochs": 1, "distributed": True},
            "sharpness_every_epochs cannot be combined with distributed",
        ),
        (
            {"sharpness_every_epochs": 1, "fsdp": 2},
            "sharpness_every_epochs cannot be combined with fsdp: measure the checkpoints by",
        ),
    ],
)
def test_what_has_no_effect_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        check(config(**FIELDS | fields), model=MODEL, dataset=hard())
