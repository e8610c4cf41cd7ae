"""A run read back: what it predicts, which checkpoint, and what cannot be read."""

import dataclasses
import json
import pathlib
import pickle
import re
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from jax.sharding import AxisType

import vasso_jax
from tests import runs
from tests.train.networks import NAME, SMALL, Small
from vasso_jax import data
from vasso_jax.data.sources import constructor
from vasso_jax.inference import exported_program, trained_run
from vasso_jax.runs import RunFolder
from vasso_jax.train import UsageError, train
from vasso_jax.train.checkpoints.weights import read_variables
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
    config.update(
        {"epochs": 4, "keep_last": 1, "model": {"name": NAME}, "base": {"name": "sgd", "lr": 3.0}}
    )
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


def write_textured(root):
    """root/SPLIT/CLASS/I.png, no two pixels of which are alike, in several sizes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for name in ("ant", "bee"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (40 + 5 * i, 60, 3)).astype(np.uint8)
                PIL.Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def on_files(tmp_path_factory):
    """A run that reads files: its folder, its result, the test images and their labels."""
    folder = write_textured(tmp_path_factory.mktemp("textured"))
    workdir = tmp_path_factory.mktemp("on_files")
    settings = (f"data.dir={folder}", "data.name=folder", "data.image_size=16", SMALL)
    result, _ = runs.run(workdir, *settings, "batch_size=8", "epochs=1", "augment.flip=True")
    files = sorted((folder / "val").rglob("*.png"))
    return workdir, result, files, np.repeat([0, 1], 4)


def test_a_run_on_files_predicts_as_it_was_tested(on_files):
    workdir, result, files, labels = on_files
    trained = vasso_jax.load_run(workdir)

    def loss(run):
        return -np.log(run.predict(files)[np.arange(len(labels)), labels]).mean()

    assert trained.preprocessing.eval_crop == 0.875
    assert loss(trained) == pytest.approx(result["test_loss"], rel=1e-4)
    other = dataclasses.replace(trained.preprocessing, eval_crop=0.5)
    assert loss(dataclasses.replace(trained, preprocessing=other)) != pytest.approx(
        result["test_loss"], rel=1e-3
    )


def test_the_crop_of_earlier_runs_is_among_their_settings(on_files, tmp_path):
    workdir, _, files, _ = on_files
    folder = tmp_path / "run"
    shutil.copytree(workdir, folder)
    facts = json.loads((folder / "dataset.json").read_text())
    del facts["eval_crop"]
    (folder / "dataset.json").write_text(json.dumps(facts))
    expected = vasso_jax.load_run(workdir).predict(files)
    np.testing.assert_array_equal(vasso_jax.load_run(folder).predict(files), expected)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_a_mesh_that_the_caller_has_set_changes_nothing(unbroken, trained, digits, axis_type):
    images = digits.test.images[:5]
    expected = trained.predict(images)
    with jax.set_mesh(jax.make_mesh((4,), ("x",), (axis_type,))):
        found = vasso_jax.load_run(unbroken[0]).predict(images)
        program = jax.export.deserialize(bytearray(exported_program(trained)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert program.nr_devices == 1
    np.testing.assert_allclose(program.call(images), expected, rtol=1e-4)


def test_a_checkpoint_that_a_run_under_way_replaces(unbroken, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(unbroken[0], folder)
    last = folder / "checkpoints" / str(runs.TOTAL_STEPS)
    last.rename(tmp_path / "not_yet_saved")

    def replaced(checkpoint, like, **options):
        if checkpoint != last:
            shutil.rmtree(checkpoint)
            (tmp_path / "not_yet_saved").rename(last)
        return read_variables(checkpoint, like, **options)

    monkeypatch.setattr(trained_run, "read_variables", replaced)
    assert vasso_jax.load_run(folder).step == runs.TOTAL_STEPS


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((8, 8, 1), np.uint8), "of one image give image"),
        (pathlib.Path("a.png"), r"give \['a\.png'\]"),
        (7, "an array or a list of images, got a int"),
    ],
)
def test_what_are_no_images_is_refused(trained, images, message):
    with pytest.raises(ValueError, match=message):
        trained.predict(images)


def test_images_may_come_one_by_one_and_from_jax(trained, digits):
    images = digits.test.images[:3]
    expected = trained.predict(images)
    np.testing.assert_array_equal(trained.predict(iter(images)), expected)
    np.testing.assert_array_equal(trained.predict(jnp.asarray(images)), expected)


def test_as_an_object(trained, digits):
    assert re.fullmatch(r"TrainedRun\('.*', step=22, model='\S+'\)", repr(trained))
    assert trained == trained
    assert len({trained, dataclasses.replace(trained)}) == 2
    images = digits.test.images[:3]
    expected = trained.predict(images)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(trained)).predict(images), expected)
    assert "load_run" in dir(vasso_jax)


@pytest.mark.parametrize("which", ["last", "best"])
def test_nothing_is_logged(unbroken, which, caplog, capfd):
    vasso_jax.load_run(unbroken[0], which)
    assert not caplog.records
    assert not capfd.readouterr().err


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
    with (
        pytest.raises(UsageError, match="of another network"),
        pytest.warns(UserWarning, match=r"was trained with .*Flat.*, and is read back as .*Small"),
    ):
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


def _without_model(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model": None}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "there is no"),
        (lambda folder: (folder / "config.json").unlink(), "is not a run folder"),
        (_newer, "needs a newer vasso_jax"),
        (_without_checkpoints, "has no checkpoint in"),
        (_without_statistics, "dataset.json lacks mean"),
        (_without_model, r"config.json is damaged \(no model.name\)"),
    ],
)
def test_what_cannot_be_read_is_told(unbroken, tmp_path, damage, message):
    folder = tmp_path / "run"
    shutil.copytree(unbroken[0], folder)
    damage(folder)
    with pytest.raises(UsageError, match=message):
        vasso_jax.load_run(folder)


def test_weights_that_are_not_finite_are_refused(unbroken, monkeypatch):
    def damaged(checkpoint, like, **options):
        variables = read_variables(checkpoint, like, **options)
        return jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(jnp.nan), variables)

    monkeypatch.setattr(trained_run, "read_variables", damaged)
    with pytest.raises(UsageError, match="its weights are not finite"):
        vasso_jax.load_run(unbroken[0])


@pytest.mark.parametrize("which", ["worst", True, 1.0, None])
def test_a_checkpoint_is_last_or_best_or_a_step(unbroken, which):
    with pytest.raises(UsageError, match="which must be 'last', 'best' or a step"):
        vasso_jax.load_run(unbroken[0], which)
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1"):
        vasso_jax.load_run(unbroken[0]).predict([], batch_size=0)
