"""The figures of each measure, against the loss of the network on the same images."""

import dataclasses
import fcntl

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.measurement.untrained import FEW
from vasso_jax import data, load_run, measurement
from vasso_jax.measurement import (
    Ball,
    Density,
    Hessian,
    Slice,
    Trace,
    measure,
    pictures,
)
from vasso_jax.measurement.pictures import draw
from vasso_jax.runs import Measurement, RunFolder, is_figure
from vasso_jax.sharpness import Eigenpairs, hessian, interpolation, mean_loss
from vasso_jax.sharpness.ball import worst_case
from vasso_jax.sharpness.host_vectors import HostOperator

BATCH = dataclasses.replace(FEW, batch_stats="batch")


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
    for made in (eigen, trace):
        assert made.details["value"] == pytest.approx(float(loss(point)), rel=1e-5)


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
        lambda w, x: jnp.where(w == x, 0, jnp.abs(w - x)).sum(1),
        lambda x, _: x,
        np.float32([[-2], [2], [4]]),
        1,
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
    # Where the gradient of one of them is zero, its ascent finds a way none the less.
    found = Ball(**options, per_batch=True)(
        loss, jnp.full(1, 2.0), lambda *report: passes.append(report)
    )
    assert found.figures["worst_l2_0.5_m1"] == pytest.approx(0.5)
    assert found.details["worst"]["random_starts"] == 1
    assert found.details["notes"] == [
        "worst_l2_0.5_m1: the gradient is zero in 1 of 3 batches, so the ascent begins with a "
        "random step there"
    ]
    assert passes[-1] == (21, 21)
    assert "notes" not in each.details
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
    assert draw(measure(run, [Trace(samples=2)], FEW)[0], reader) is None


def test_a_line_between_two_runs_ends_at_their_losses(two_runs):
    (loss, params), (_, others) = (
        measurement.objective(load_run(folder), BATCH) for folder in two_runs
    )
    found = interpolation(loss, params, others, [0, 0.5, 1]).losses
    np.testing.assert_allclose(found[[0, 2]], [loss.value(params), loss.value(others)], rtol=1e-6)
    half = jax.tree.map(lambda x, y: (x + y) / 2, params, others)
    np.testing.assert_allclose(found[1], loss.value(half), rtol=1e-4)


def test_a_picture_is_written_by_one_command_at_a_time(tmp_path, monkeypatch):
    written = []

    def write(path, content):
        written.append(path)
        with (tmp_path / "sharpness.json.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr(pictures, "write_bytes", write)
    details = {"x": [-1.0, 0.0, 1.0], "losses": [1.0, 0.5, None]}
    settings = {"dimensions": "1d"}
    made = Measurement(
        step=1, kind="slice", settings=settings, figures={}, details=details, seconds=1.0
    )
    assert [draw(made, RunFolder(tmp_path))] == written
