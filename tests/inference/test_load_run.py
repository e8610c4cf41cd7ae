"""A run read back: what it predicts, which checkpoint, and what cannot be read."""

import json
import shutil

import flax.linen as nn
import numpy as np
import pytest

import vasso_jax
from tests import runs
from tests.data.image_files import make_folder
from tests.train.networks import NAME, SMALL, Small
from vasso_jax import data
from vasso_jax.data.sources import constructor
from vasso_jax.runs import RunFolder
from vasso_jax.train import UsageError, train
from vasso_jax.train.presets import digits as digits_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(unbroken):
    return vasso_jax.load_run(unbroken[0])


@pytest.fixture(scope="module")
def digits():
    return constructor("digits")().load()


def test_the_predictions_are_those_of_the_test(unbroken, trained, digits):
    images, labels = digits.test
    found = trained.predict(images, batch_size=50)
    assert found.shape == (len(labels), 10)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    _, result, _ = unbroken
    assert (found.argmax(1) == labels).mean() == pytest.approx(result["test_top1"], abs=1e-7)
    loss = -np.log(found[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(result["test_loss"], rel=1e-5)
    # However they are given.
    few = trained.predict([*images[:5]], batch_size=1)
    np.testing.assert_allclose(few, found[:5], rtol=1e-4)
    assert trained.predict(images[:0]).shape == (0, 10)


def test_a_run_is_what_its_folder_says(unbroken, trained):
    assert trained.step == runs.TOTAL_STEPS
    assert trained.class_names == tuple("0123456789")
    assert trained.settings["model"]["name"] == NAME
    assert isinstance(trained.model, Small)
    arrays = runs.checkpoint(unbroken[0], runs.TOTAL_STEPS)
    kernel = trained.variables["params"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, arrays["params/conv/kernel"])


def test_the_best_checkpoint_is_that_of_the_best_test(tmp_path):
    # A learning rate that grows makes it worse and worse.
    config = digits_config("none")
    config.update({"epochs": 4, "model": {"name": NAME}, "base": {"name": "sgd", "lr": 3.0}})
    config.schedule = {"name": "constant", "warmup_epochs": 3.9}
    train(config, str(tmp_path))
    tests = [r for r in RunFolder(tmp_path).records() if r["split"] == "test"]
    best = max(tests, key=lambda record: record["top1"])
    assert best["step"] < tests[-1]["step"], "this test needs a run that became worse"
    assert vasso_jax.load_run(tmp_path, "best").step == best["step"]
    assert vasso_jax.load_run(tmp_path).step == tests[-1]["step"]
    assert vasso_jax.load_run(tmp_path, best["step"]).step == best["step"]
    # And a run can start there.
    config.update({"epochs": 0, "init_from": f"{tmp_path}@best"})
    evaluated = train(config, str(tmp_path / "best"))
    assert evaluated["test_top1"] == pytest.approx(best["top1"], abs=1e-7)
    config.init_from = f"{tmp_path}@3"
    kept = f"only of {best['step']}, {tests[-1]['step']}"
    with pytest.raises(UsageError, match=f"no checkpoint of step 3, {kept}"):
        train(config, str(tmp_path / "third"))


def test_a_run_on_files_predicts_as_it_was_tested(tmp_path):
    folder = make_folder(tmp_path / "folder", train=20, val=5)
    settings = (f"data.dir={folder}", "data.name=folder", "data.image_size=16", SMALL)
    _, out = runs.run(tmp_path / "run", *settings, "batch_size=8", "epochs=1", "augment.flip=True")
    trained = vasso_jax.load_run(tmp_path / "run")
    assert trained.preprocessing.eval_crop == 0.875
    files = sorted((folder / "val").rglob("*.*"))
    labels = [trained.class_names.index(file.parent.name) for file in files]
    found = trained.predict(files)
    result = json.loads(out.splitlines()[-1])
    loss = -np.log(found[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(result["test_loss"], rel=1e-4)


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(3)(x.reshape(len(x), -1))


def test_a_network_given_as_an_object_is_given_again(tmp_path):
    rng = np.random.default_rng(0)
    pair = rng.integers(0, 256, (16, 4, 4, 1)).astype(np.uint8), np.arange(16) % 3
    dataset = data.from_arrays("own", pair, pair)
    config = digits_config("none")
    config.update({"epochs": 1, "batch_size": 8, "model": {}, "data": {}})
    train(config, str(tmp_path), model=Flat(), dataset=dataset)
    with pytest.raises(UsageError, match="trained with a network given as an object"):
        vasso_jax.load_run(tmp_path)
    assert vasso_jax.load_run(tmp_path, model=Flat()).predict(pair[0]).shape == (16, 3)
    with pytest.raises(UsageError, match="of another network"):
        vasso_jax.load_run(tmp_path, model=Small(3))
    with pytest.raises(UsageError, match="must be a Flax Linen module"):
        vasso_jax.load_run(tmp_path, model=Flat)


def _newer(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))


def _without_checkpoints(folder):
    shutil.rmtree(folder / "checkpoints")


def _without_statistics(folder):
    facts = json.loads((folder / "dataset.json").read_text())
    del facts["mean"]
    (folder / "dataset.json").write_text(json.dumps(facts))


def _damaged_weights(folder):
    shutil.rmtree(folder / "checkpoints" / str(runs.TOTAL_STEPS) / "state" / "d")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a run folder"),
        (_newer, "needs a newer vasso_jax"),
        (_without_checkpoints, "has no checkpoint in"),
        (_without_statistics, "dataset.json lacks mean"),
        (_damaged_weights, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told(unbroken, tmp_path, damage, message):
    folder = tmp_path / "run"
    shutil.copytree(unbroken[0], folder)
    damage(folder)
    with pytest.raises(UsageError, match=message):
        vasso_jax.load_run(folder)


@pytest.mark.parametrize("which", ["worst", True, 1.0, None])
def test_a_checkpoint_is_last_or_best_or_a_step(unbroken, which):
    with pytest.raises(UsageError, match="which must be 'last', 'best' or a step"):
        vasso_jax.load_run(unbroken[0], which)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        vasso_jax.load_run(unbroken[0]).predict([], batch_size=0)
