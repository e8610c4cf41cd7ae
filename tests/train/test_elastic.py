"""Runs that are resumed on another number of devices, and with their parameters spread or not."""

import signal

import jax
import numpy as np
import pytest

from tests import runs
from tests.train.networks import NAME
from vasso_jax.runs import RecordFile
from vasso_jax.train import Stopped, check, run_plan
from vasso_jax.train.presets import digits

pytestmark = pytest.mark.slow

EPOCHS = 4


def plan(devices, fsdp):
    config = digits("vasso")
    config.model = {"name": NAME, "hidden": 64}
    # One step per epoch, and a batch that eight devices share. A small rho, as training multiplies
    # rounding.
    config.batch_size = 1432
    config.method = {"name": "vasso", "rho": 0.05, "theta": 0.9}
    config.epochs, config.fsdp, config.tensorboard = EPOCHS, fsdp, False
    config.recheck_every_steps = 2
    return check(config, devices=jax.devices()[:devices])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a run on four devices."""
    workdir = tmp_path_factory.mktemp("unbroken")
    run_plan(plan(4, 1), str(workdir))
    return workdir


# (devices, fsdp)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((4, 1), (8, 4)),
        pytest.param((4, 1), (1, 1), marks=pytest.mark.weekly),
        pytest.param((4, 4), (8, 1), marks=pytest.mark.weekly),
        ((4, 4), (2, 2)),
    ],
)
def test_a_run_resumes_on_any_number_of_devices(unbroken, tmp_path, monkeypatch, before, after):
    append = RecordFile.append

    def told_to_stop(self, *records):
        append(self, *records)
        if records[0]["epoch"] == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(RecordFile, "append", told_to_stop)
    with pytest.raises(Stopped):
        run_plan(plan(*before), str(tmp_path))
    assert max(runs.steps_saved(tmp_path)) == 2
    monkeypatch.undo()
    run_plan(plan(*after), str(tmp_path))

    ours, theirs = runs.checkpoint(tmp_path, EPOCHS), runs.checkpoint(unbroken, EPOCHS)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        if "metric_sums" not in name:
            np.testing.assert_allclose(array, theirs[name], rtol=2e-4, atol=2e-5, err_msg=name)
    for one, other in zip(runs.records(tmp_path), runs.records(unbroken), strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-5)
