"""Damaged files of runs and of PyTorch: each is read, or refused in one line that names it."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.damage import damaged, examples, read_or_refuse
from tests.models.test_torch_weights import state_dict
from tests.run_folder.measured import measurement
from tests.run_folder.written import DATA, write_run
from vasso_jax.cli import import_torch
from vasso_jax.inference import load_run
from vasso_jax.models import from_torch
from vasso_jax.runs import RunFolder, add_measurement, read_run

FACTS = DATA | {
    "image_shape": [8, 8, 1],
    "mean": [0.5],
    "std": [0.25],
    "streamed": True,
    "eval_crop": 0.875,
    "class_names": ["ant", "bee"],
}
FILES = ("config.json", "dataset.json", "metrics.jsonl", "sharpness.json")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, and the contents of its files."""
    path = write_run(tmp_path_factory.mktemp("damaged") / "run", 0.25, 0.5, data=FACTS)
    add_measurement(RunFolder(path).sharpness_path, measurement())
    return path, {name: (path / name).read_bytes() for name in FILES}


def check(run, data, names, read):
    path, files = run
    name = data.draw(st.sampled_from(names))
    try:
        (path / name).write_bytes(data.draw(damaged(files[name])))
        read_or_refuse(lambda: read(path), path)
    finally:
        (path / name).write_bytes(files[name])


def read_results(path):
    found = read_run(path)
    return found.finished, found.best(), found.last(), found.best_epoch, found.seeds, found.figures


@examples(1.0)
@given(data=st.data())
def test_a_run_to_compare(run, data):
    check(run, data, FILES, read_results)


@examples(0.1)
@given(data=st.data())
def test_a_run_to_predict_with(run, data):
    # It has no checkpoint, which is looked for last.
    check(run, data, ("config.json", "dataset.json"), load_run)


@pytest.fixture(scope="module")
def checkpoints():
    """A state dict as PyTorch writes it, in its two formats."""
    torch = pytest.importorskip("torch")
    weights = {key: torch.from_numpy(np.asarray(value)) for key, value in state_dict().items()}
    small = {key: weights[key] for key in ("conv1.weight", "fc.weight", "fc.bias")}
    contents = []
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save({"model": small, "epoch": 3}, file, _use_new_zipfile_serialization=zipped)
        contents.append(file.getvalue())
    return contents


@examples(0.3)
@given(data=st.data())
def test_a_checkpoint_of_pytorch(checkpoints, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "checkpoint.pth"
    path.write_bytes(data.draw(damaged(*checkpoints)))
    weights = []
    if read_or_refuse(lambda: weights.append(import_torch._state_dict(path)), path):
        read_or_refuse(lambda: from_torch("wrn10_1", *weights), "")
