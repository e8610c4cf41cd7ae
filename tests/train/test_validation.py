"""A validation split picks the best checkpoint and ends a run; the test is looked at once."""

import json

import numpy as np
import pytest

from tests import runs
from tests.train.own_parts import Linear, config
from vasso_jax import data, load_run
from vasso_jax.runs import RunFolder, read_run
from vasso_jax.train import UsageError, train
from vasso_jax.train.checkpoints.checkpoint import Checkpoints
from vasso_jax.train.evaluation import evaluate

pytestmark = pytest.mark.slow

MODEL = Linear(2)
SHARE = {"share": 0.25}


def hard(train_images=64) -> data.ImageDataset:
    """Noise of which a few pixels tell the class: accuracies go up and down."""
    rng = np.random.default_rng(0)

    def draw(count):
        labels = np.arange(count) % 2
        images = rng.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
        images[labels == 1, :1] |= 64
        return images, labels

    return data.from_arrays("hard", draw(train_images), draw(50))


def fit(workdir, **fields):
    settings = {"validation": SHARE, "base": {"name": "sgd", "lr": 0.5}, "epochs": 8} | fields
    return train(config(**settings), str(workdir), model=MODEL, dataset=hard())


def splits(workdir):
    return [(r["epoch"], r["split"], r.get("checkpoint")) for r in RunFolder(workdir).records()]


def without_times(workdir):
    return runs.records(workdir)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of 8 epochs: (workdir, result)."""
    workdir = tmp_path_factory.mktemp("finished")
    return workdir, fit(workdir)


def test_each_epoch_is_validated_and_the_end_is_tested(finished):
    workdir, result = finished
    epochs = [(epoch, split, None) for epoch in range(1, 9) for split in ("train", "validation")]
    run = read_run(workdir)
    assert splits(workdir) == [*epochs, (run.best_epoch, "test", "best"), (8, "test", None)]
    facts = json.loads((workdir / "dataset.json").read_text())
    assert (facts["train_images"], facts["validation_images"]) == (48, 16)
    assert facts["stratified"] is True
    accuracies = [record["top1"] for record in run.validations]
    # Of equally good ones, the latest is kept.
    assert run.best_epoch == max(range(1, 9), key=lambda e: (accuracies[e - 1], e)) < 8
    assert result["best_validation_top1"] == max(accuracies)
    assert result["validation_top1"] == accuracies[-1]


@pytest.mark.parametrize(("which", "key"), [("last", "test_top1"), ("best", "best_test_top1")])
def test_the_figures_are_those_of_the_checkpoints(finished, which, key):
    workdir, result = finished
    run = load_run(workdir, which, model=MODEL)
    images, labels = hard().test
    assert (run.predict(images).argmax(1) == labels).mean() == pytest.approx(result[key])
    held_out = data.hold_out(hard(), data.Validation(**SHARE)).validation
    accuracy = (run.predict(held_out.images).argmax(1) == held_out.labels).mean()
    validated = {"last": "validation_top1", "best": "best_validation_top1"}[which]
    assert accuracy == pytest.approx(result[validated])


def test_held_out_images_are_not_trained_on(tmp_path):
    """Their labels are all wrong, and the training accuracy is perfect."""
    images, labels = np.zeros((64, 4, 4, 1), np.uint8), np.arange(64) % 2
    images[labels == 1] = 200
    easy = data.from_arrays("easy", (images, labels), (images, labels))
    held_out = data.hold_out(easy, data.Validation(**SHARE)).validation
    wrong = data.ImageDataset(
        *("easy", easy.class_names, easy.mean, easy.std),
        *(data.hold_out(easy, data.Validation(**SHARE)).train, easy.test),
        validation=held_out._replace(labels=1 - held_out.labels),
    )
    result = train(config(epochs=3), str(tmp_path), model=MODEL, dataset=wrong)
    assert (result["test_top1"], result["best_validation_top1"]) == (1, 0)
    assert "stratified" not in json.loads((tmp_path / "dataset.json").read_text())


def test_the_run_stops_when_patience_is_over(finished, tmp_path, capsys):
    workdir, _ = finished
    accuracies = [record["top1"] for record in read_run(workdir).validations]
    best_before = np.maximum.accumulate(accuracies)
    end = next(e for e in range(3, 9) if best_before[e - 3] >= max(accuracies[e - 2 : e]))
    assert end < 8
    result = fit(tmp_path, patience=2)
    assert result["epochs"] == end
    assert f"{end} of 8 (stopped early)" in capsys.readouterr().out
    # Up to there it is the run without patience.
    assert without_times(tmp_path)[: 2 * end] == without_times(workdir)[: 2 * end]
    assert fit(tmp_path, patience=2) == result
    assert "has finished" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("patience", [0, 2])
def test_killed_anywhere_it_ends_the_same(tmp_path, monkeypatch, patience):
    fit(tmp_path / "whole", patience=patience)

    class Killed(BaseException):
        pass

    calls = {"left": 0}

    def dying(original):
        def call(*args, **kwargs):
            calls["left"] -= 1
            if not calls["left"]:
                raise Killed
            return original(*args, **kwargs)

        return call

    monkeypatch.setattr(Checkpoints, "save", dying(Checkpoints.save))
    monkeypatch.setattr("vasso_jax.train.loop.evaluate", dying(evaluate))
    monkeypatch.setattr("vasso_jax.train.checkpoints.pacing._SECONDS_BETWEEN_WRITES", 0.0)
    for calls["left"] in range(1, 40):
        try:
            fit(tmp_path / "killed", patience=patience)
        except Killed:
            continue
        break
    assert calls["left"] > 0
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "whole")


@pytest.mark.slow
def test_streamed_images_are_held_out_too(tmp_path):
    class Images:
        labels = np.arange(40) % 2

        def __len__(self):
            return 40

        def __getitem__(self, index):
            return data.EncodedExample(encoded[index % 2], index % 2, f"image {index}")

    from tests.data.image_files import jpeg

    encoded = jpeg((250, 10, 10)), jpeg((10, 10, 250))
    streaming = data.Streaming(image_size=8)
    both = data.StreamedDataset(
        "own", ("red", "blue"), *data.datasets.IMAGENET_STATISTICS, Images(), Images(), streaming
    )
    made = config(validation=SHARE, epochs=3)
    result = train(made, str(tmp_path), model=MODEL, dataset=both)
    assert (result["test_top1"], result["validation_top1"]) == (1, 1)
    facts = json.loads((tmp_path / "dataset.json").read_text())
    assert (facts["train_images"], facts["validation_images"]) == (30, 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"validation": {}, "patience": 2}, "patience=2 needs a validation split: hold out some"),
        ({"patience": 7}, "patience=7 has no effect: the run is evaluated 8 times"),
        ({"patience": 3, "eval_every_epochs": 2}, "the run is evaluated 4 times"),
        ({"patience": -1}, "patience must be >= 0"),
        ({"validation": {"share": 1.5}}, r"validation: the share for validation must be in \(0, 1"),
        ({"validation": {"seed": 1}}, "validation needs share: give --config.validation.share"),
        ({"validation": {"share": 0.001}}, "leaves 64 for training and 0 for validation"),
    ],
)
def test_what_has_no_effect_is_refused(tmp_path, fields, message):
    with pytest.raises(UsageError, match=message):
        fit(tmp_path / "run", **fields)
    assert not (tmp_path / "run").exists()
