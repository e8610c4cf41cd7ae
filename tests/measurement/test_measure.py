"""What is measured of a run: the figures, the images, and that nothing is measured twice."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.measurement.untrained import write
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
from vasso_jax.measurement.pictures import draw
from vasso_jax.runs import RunFolder, is_figure, read_measurements
from vasso_jax.sharpness import Eigenpairs, hessian, interpolation, mean_loss
from vasso_jax.sharpness.ball import worst_case
from vasso_jax.sharpness.host_vectors import HostOperator
from vasso_jax.train import UsageError

FEW = LossOptions(examples=30, batch_size=16)
BATCH = dataclasses.replace(FEW, batch_stats="batch")


@pytest.fixture
def folder(two_runs, tmp_path):
    """A copy of a run."""
    return shutil.copytree(two_runs[0], tmp_path / "run")


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
        return Found({"trace_of_nothing": self.scale * float(jnp.linalg.norm(flat(params)))}, {})


class Failing(Norm):
    kind = "failing"

    def __call__(self, objective, params, progress):
        raise KeyboardInterrupt


def flat(params):
    return jnp.concatenate([x.ravel() for x in jax.tree.leaves(params)])


def direct_loss(run, images, labels):
    """The mean loss as a function of the flat parameters, from the network itself."""
    structure = jax.tree.structure(run.variables["params"])
    shapes = [x.shape for x in jax.tree.leaves(run.variables["params"])]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    pixels = data.normalize(images, run.preprocessing.mean, run.preprocessing.std)

    def loss(vector):
        leaves = [x.reshape(s) for x, s in zip(jnp.split(vector, ends[:-1]), shapes, strict=True)]
        variables = {**run.variables, "params": jax.tree.unflatten(structure, leaves)}
        logits = run.model.apply(variables, pixels, train=False)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()

    return loss


@pytest.mark.slow
def test_the_figures_are_those_of_the_loss_on_these_images(folder):
    run = load_run(folder)
    eigen, trace = measure(run, [Hessian(smallest=1, tolerance=1e-4), Trace(samples=50)], FEW)
    split = data.draw(data.load("digits"), "train", 30, 0)
    loss = direct_loss(run, *split)
    point = flat(jax.device_get(run.variables["params"]))
    column = jax.jit(lambda v: jax.jvp(jax.grad(loss), (point,), (v,))[1])
    matrix = np.array([column(v) for v in np.eye(len(point), dtype=np.float32)])
    values = np.linalg.eigvalsh(matrix)[::-1]
    assert eigen.figures["lambda_1"] == pytest.approx(values[0], rel=1e-3)
    assert eigen.figures["lambda_1_over_5"] == pytest.approx(values[0] / values[4], rel=1e-2)
    assert eigen.figures["lambda_min"] == pytest.approx(values[-1], rel=0.05)
    error = trace.details["standard_errors"]["trace"]
    assert abs(trace.figures["trace"] - np.trace(matrix)) < 4 * error
    assert eigen.details["value"] == pytest.approx(float(loss(point)), rel=1e-5)


def quadratic(values):
    """The loss sum(values * w^2) / 2 of one example, and w = 1."""
    values = jnp.asarray(values, jnp.float32)
    squares = mean_loss(
        lambda w, _: (values * w**2).sum()[None] / 2, lambda x, _: x, np.zeros(1), 1
    )
    return squares, jnp.ones_like(values)


def test_the_smallest_eigenvalue_is_a_figure_where_it_is_precise(monkeypatch):
    problem = quadratic([8, 5, 4, 3, 2, 1, -1])
    found = Hessian(smallest=2)(*problem, lambda *_: None)
    assert found.figures == pytest.approx({"lambda_1": 8, "lambda_1_over_5": 4, "lambda_min": -1})
    assert found.details["values"] == pytest.approx([8, 5, 4, 3, 2, 1, -1])
    assert "notes" not in found.details
    for residual, there in ((0.09, True), (0.11, False)):
        monkeypatch.setattr(
            "vasso_jax.measurement.curvature.eigenvalues",
            lambda *_, residual=residual, **options: Eigenpairs(
                np.array([8.0, -1.0]), (), np.array([1.0, residual]), 9
            ),
        )
        figures, details = Hessian(largest=1, smallest=1)(*problem, lambda *_: None)
        assert ("lambda_min" in figures) == there
        assert details["residuals"] == [1.0, residual]
    assert details["notes"] == ["lambda_min is left out: -1, with an error of up to 0.11"]
    assert [*Hessian(largest=1)(*problem, lambda *_: None).figures] == ["lambda_1"]


@pytest.mark.slow
def test_the_smallest_eigenvalue_of_a_trained_network_is_right_or_left_out(folder):
    """There the smallest ones are a dense cluster, thousands of times below the largest."""
    run = load_run(folder)
    loss, params = measurement.objective(run, FEW)
    tx = optax.adam(0.02)
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(loss.value_and_grad(params)[1], state)
        return optax.apply_updates(params, updates), state

    for _ in range(300):
        params, state = step(params, state)
    figures, details = Hessian(smallest=1)(loss, params, lambda *_: None)
    operator = HostOperator(hessian(loss, params), 0, None)
    matrix = np.stack([operator(column) for column in np.eye(operator.size)])
    smallest = np.linalg.eigvalsh((matrix + matrix.T) / 2)[0]
    assert abs(smallest) < 0.01 * figures["lambda_1"]
    if "lambda_min" in figures:
        assert figures["lambda_min"] == pytest.approx(smallest, rel=0.1)
    else:
        assert abs(details["values"][-1] - smallest) <= details["residuals"][-1]
        assert details["notes"]


@pytest.mark.slow
def test_the_ball_is_that_of_the_loss_on_these_images(folder):
    run = load_run(folder)
    (plain,) = measure(run, [Ball(radius=0.1, steps=3, samples=4)], FEW)
    figures = [f"{name}_l2_0.1" for name in ("worst", "average", "first_order")]
    assert [*plain.figures] == figures
    loss = direct_loss(run, *data.draw(data.load("digits"), "train", 30, 0))
    objective = mean_loss(lambda v, _: loss(v)[None], lambda x, _: x, np.zeros(1), 1)
    point = flat(jax.device_get(run.variables["params"]))
    direct = worst_case(objective, point, 0.1, steps=3)
    assert plain.figures[figures[0]] == pytest.approx(direct.value, rel=1e-3)
    assert plain.figures[figures[2]] <= plain.figures[figures[0]]
    passes = []

    class Report:
        def passes(self, measure, done, expected):
            passes.append((done, expected))

        def ended(self, made):
            passes.append(made)

    other = Ball(radius=0.5, norm="linf", adaptive=True, normalize_logits=True, steps=2, samples=2)
    (made,) = measure(run, [other], FEW, report=Report())
    assert [*made.figures] == [
        f"adaptive_{name}_linf_0.5_normalized" for name in ("worst", "average", "first_order")
    ]
    assert all(map(is_figure, made.figures))
    assert passes.pop() == made
    # The total is right from the first one on: 4 + 3 + 3.
    assert passes == [(done, 10) for done in range(1, 11)]


def test_each_batch_can_have_a_perturbation_of_its_own():
    """On |w - x| the way that the loss grows depends on the side of the example."""
    loss = mean_loss(
        lambda w, x: jnp.abs(w - x).sum(1), lambda x, _: x, np.float32([[-2], [2], [4]]), 1
    )
    passes = []
    options = {"radius": 0.5, "steps": 2, "samples": 3}
    one, each = (
        Ball(**options, per_batch=per_batch)(
            loss, jnp.zeros(1), lambda *report: passes.append(report)
        )
        for per_batch in (False, True)
    )
    # One parameter for all helps two and hurts one.
    assert one.figures["worst_l2_0.5"] == pytest.approx(0.5 / 3)
    assert one.figures["first_order_l2_0.5"] == pytest.approx(0.5 / 3)
    assert each.figures["worst_l2_0.5_m1"] == pytest.approx(0.5)
    assert each.figures["first_order_l2_0.5_m1"] == pytest.approx(0.5)
    assert each.figures["average_l2_0.5"] == one.figures["average_l2_0.5"]
    assert all(map(is_figure, each.figures))
    # 4 + 4 + 3 passes, and 1 + 3 * 3 + 4 + 1 + 3 * 2.
    assert passes == [(i, total) for total in (11, 21) for i in range(1, total + 1)]
    with pytest.raises(ValueError, match="per_batch has no effect on one batch"):
        Ball(**options, per_batch=True)(*quadratic([1, 2]), lambda *_: None)


@pytest.mark.slow
def test_a_density_and_slices_are_kept_and_drawn(folder):
    run = load_run(folder)
    reader = RunFolder(folder)
    density, line = measure(run, [Density(probes=2, steps=5), Slice(dimensions="1d")], BATCH)
    (plane,) = measure(run, [Slice(dimensions="2d", points=3)], BATCH)
    assert sum(density.details["weights"]) == pytest.approx(1)
    assert np.shape(plane.details["losses"]) == (3, 3)
    middle = len(line.details["x"]) // 2
    assert line.details["x"][middle] == 0
    assert line.details["losses"][middle] == pytest.approx(line.details["value"], rel=1e-5)
    for made, path in (
        (density, reader.density_path),
        (line, reader.slice_path),
        (plane, reader.slice_path),
    ):
        assert draw(made, reader) == path
        assert path.read_bytes().startswith(b"\x89PNG")
    assert draw(measure(run, [Norm()], FEW)[0], reader) is None


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
        (lambda: Hessian(largest=5.0), "largest must be an integer of at least 1, got 5.0"),
        (lambda: Hessian(smallest=-1), "smallest must be an integer of at least 0, got -1"),
        (lambda: Hessian(tolerance=0), "tolerance must be between 0 and 1, got 0"),
        (lambda: Trace(samples=1), "samples of the trace must be an integer of at least 2, got 1"),
        (lambda: Trace(seed=-1), "seed must be an integer of at least 0, got -1"),
        (lambda: Density(probes=0), "probes must be an integer of at least 1, got 0"),
        (lambda: Density(steps=0), "steps must be an integer of at least 1, got 0"),
        (lambda: Ball(radius=1.0, steps=0), "steps must be an integer of at least 1, got 0"),
        (lambda: Ball(radius=1.0, samples=0), "samples must be an integer of at least 1, got 0"),
        (lambda: Ball(radius=0.0), "radius of the ball must be a number > 0"),
        (lambda: Ball(radius=1.0, norm="l1"), "there is no norm 'l1'"),
        (lambda: Slice(dimensions="3d"), "there is no slice '3d'"),
        (lambda: Slice(dimensions="1d", points=20), "points must be odd, .*, got 20"),
        (
            lambda: Slice(dimensions="1d", points=1),
            "points must be an integer of at least 3, got 1",
        ),
        (lambda: Slice(dimensions="1d", reach=np.nan), "reach of a slice must be a number > 0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_split_that_is_not_there_is_refused(two_runs):
    with pytest.raises(UsageError, match="none0 has no validation split"):
        find_target(two_runs[0], "last", LossOptions(split="validation"))


def test_a_line_between_two_runs_ends_at_their_losses(two_runs):
    (loss, params), (_, others) = (
        measurement.objective(load_run(folder), BATCH) for folder in two_runs
    )
    found = interpolation(loss, params, others, [0, 0.5, 1]).losses
    np.testing.assert_allclose(found[[0, 2]], [loss.value(params), loss.value(others)], rtol=1e-6)
    half = jax.tree.map(lambda x, y: (x + y) / 2, params, others)
    np.testing.assert_allclose(found[1], loss.value(half), rtol=1e-4)


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_measured(folder, monkeypatch):
    def fails(**kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", fails)
    monkeypatch.setattr(measurement.measuring, "objective", None)
    with pytest.raises(UsageError, match=r"run cannot be written \(Read-only file system\): its"):
        measure(load_run(folder), [Trace(samples=2)], FEW)
