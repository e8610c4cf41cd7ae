"""Measuring a run: which images, what is kept, and that nothing is measured twice."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest

from tests.measurement.untrained import FEW, write
from vasso_jax import data, load_run, measurement
from vasso_jax.measurement import (
    Ball,
    Density,
    Found,
    Hessian,
    LossOptions,
    Slice,
    Trace,
    find_target,
    measure,
)
from vasso_jax.runs import RunFolder, read_measurements
from vasso_jax.train import UsageError


@dataclasses.dataclass(frozen=True)
class Norm:
    """A measure that is made at once: the norm of the parameters."""

    kind = "norm"
    scale: float = 1.0

    @property
    def settings(self):
        return dataclasses.asdict(self)

    def __call__(self, objective, params, progress):
        progress(1, 1)
        return Found({"trace_of_nothing": self.scale * float(optax.tree.norm(params))}, {})


class Failing(Norm):
    kind = "failing"

    def __call__(self, objective, params, progress):
        raise KeyboardInterrupt


def test_two_runs_are_measured_on_the_same_images(two_runs):
    first, second = (measurement.objective(load_run(folder), FEW)[0] for folder in two_runs)
    np.testing.assert_array_equal(first.batches["images"], second.batches["images"])
    other, _ = measurement.objective(load_run(two_runs[0]), dataclasses.replace(FEW, seed=1))
    assert (first.batches["images"] != other.batches["images"]).any()
    assert first.weights.sum() == 30
    # And by one program.
    assert jax.tree.structure(first) == jax.tree.structure(second)


def test_what_is_finished_is_kept_and_not_measured_again(folder):
    run = load_run(folder)
    with pytest.raises(KeyboardInterrupt):
        measure(run, [Norm(), Failing(), Norm(2.0)], FEW)
    path = RunFolder(folder).sharpness_path
    (kept,) = read_measurements(path)
    seen = []

    class Report:
        def passes(self, measure, done, expected):
            seen.append((measure, done, expected))

        def ended(self, made):
            seen.append(made)

    found = measure(run, [Norm(), Norm(2.0)], FEW, report=Report())
    assert found == read_measurements(path)
    assert found[0] == kept
    assert seen == [(Norm(2.0), 1, 1), found[1]]
    assert found[1].figures["trace_of_nothing"] == 2 * kept.figures["trace_of_nothing"]
    # Another choice of the loss is another entry.
    (other,) = measure(run, [Norm()], dataclasses.replace(FEW, seed=1))
    assert read_measurements(path) == [*found, other]
    target = find_target(folder, "last", FEW)
    assert target.found([Norm(), Norm(3.0)]) == [kept, None]


def test_what_is_there_is_found_without_reading_any_data(folder, monkeypatch):
    run = load_run(folder)
    (made,) = measure(run, [Norm()], FEW)
    assert made.details["examples"] == 30
    monkeypatch.setattr("vasso_jax.measurement.measuring.objective", None)
    assert measure(run, [Norm()], FEW) == [made]


def test_best_and_last_are_other_checkpoints(folder):
    best, last = (measure(load_run(folder, which), [Norm()], FEW)[0] for which in ("best", "last"))
    assert (best.step, last.step) == (11, 22)
    assert best.figures != last.figures
    assert find_target(folder, "best", FEW).step == 11


def test_all_choices_are_recorded(folder):
    loss = measure(load_run(folder), [Norm()], LossOptions(examples=10**6))[0].settings["loss"]
    assert loss == {
        "split": "train",
        "examples": 1438,
        "seed": 0,
        "batch_size": 200,
        "batch_stats": "running",
        "weights": "last step",
        "loss": "cross-entropy",
        "label_smoothing": 0.0,
        "weight_decay": 0.0,
        "augmentation": False,
        "dropout": False,
        "dtype": "float32",
    }


def test_held_out_images_and_noisy_labels_are_those_of_the_run(tmp_path):
    noise = {"kind": "symmetric", "rate": 0.5}
    folder = write(tmp_path / "run", label_noise=noise, validation={"share": 0.25})
    whole = data.load("digits")
    noisy, _ = data.add_label_noise(whole, data.LabelNoise(**noise))
    expected = data.hold_out(noisy, data.Validation(0.25))
    for split, size in (("train", 1078), ("validation", 360), ("test", 359)):
        options = LossOptions(split=split, examples=10**6, batch_size=10**6)
        objective, _ = measurement.objective(load_run(folder), options)
        assert objective.weights.shape == (1, size)
        drawn = data.draw(expected, split, size, 0)
        np.testing.assert_array_equal(objective.batches["labels"][0], drawn.labels)
        np.testing.assert_array_equal(objective.batches["images"][0], drawn.images)


def test_another_data_set_is_refused(folder):
    facts = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**facts, "train_images": 7}))
    with pytest.raises(UsageError, match=r"not the one that .* was trained on .*train_images=7"):
        measure(load_run(folder), [Norm()], FEW)


def test_a_data_set_given_as_an_object_is_given_again(folder):
    run = load_run(folder)
    objective, _ = measurement.objective(run, FEW, data.load("digits"))
    np.testing.assert_array_equal(
        objective.batches["images"], measurement.objective(run, FEW)[0].batches["images"]
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossOptions(split="trian"), "there is no split 'trian'. Did you mean train?"),
        (lambda: LossOptions(examples=0), "examples must be an integer of at least 1, got 0"),
        (
            lambda: LossOptions(batch_size=2.0),
            "batch_size must be an integer of at least 1, got 2.0",
        ),
        (lambda: LossOptions(batch_stats="none"), "there is no choice of batch_stats 'none'"),
        (lambda: Hessian(largest=0), "largest must be an integer of at least 1, got 0"),
        (lambda: Hessian(largest=5.0), r"largest must be an integer of at least 1, got 5.0"),
        (lambda: Hessian(smallest=-1), "smallest must be an integer of at least 0, got -1"),
        (lambda: Hessian(tolerance=0), "tolerance must be a positive number below 1, got 0"),
        (lambda: Hessian(tolerance="x"), "tolerance must be a positive number below 1, got 'x'"),
        (lambda: Trace(samples=1), "samples must be an integer of at least 2, got 1"),
        (lambda: Trace(seed=-1), "seed must be an integer of at least 0, got -1"),
        (lambda: Density(probes=0), "probes must be an integer of at least 1, got 0"),
        (lambda: Density(steps=0), "steps must be an integer of at least 1, got 0"),
        (lambda: Ball(radius=1.0, steps=0), "steps must be an integer of at least 1, got 0"),
        (lambda: Ball(radius=1.0, samples=0), "samples must be an integer of at least 1, got 0"),
        (lambda: Ball(radius=0.0), "radius of the ball must be a positive number, got 0.0"),
        (lambda: Ball(radius="wide"), "must be a positive number, got 'wide'"),
        (lambda: Ball(radius=1.0, per_batch="no"), "per_batch must be True or False, got 'no'"),
        (lambda: Ball(radius=1e-39), "radius of the ball must be a number > 0 that float32 has"),
        (lambda: Ball(radius=1.0, norm="l1"), "there is no norm 'l1'"),
        (lambda: Slice(dimensions="3d"), "there is no slice '3d'"),
        (lambda: Slice(dimensions="1d", points=20), "points must be odd, .*, got 20"),
        (
            lambda: Slice(dimensions="1d", points=1),
            "points must be an integer of at least 3, got 1",
        ),
        (
            lambda: Slice(dimensions="1d", reach=np.nan),
            "reach of a slice must be a positive number",
        ),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_split_that_is_not_there_is_refused(two_runs):
    with pytest.raises(UsageError, match="none0 has no validation split"):
        find_target(two_runs[0], "last", LossOptions(split="validation"))


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_measured(folder, monkeypatch):
    def fails(**kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", fails)
    monkeypatch.setattr(measurement.measuring, "objective", None)
    with pytest.raises(UsageError, match=r"run cannot be written \(Read-only file system\): its"):
        measure(load_run(folder), [Trace(samples=2)], FEW)
