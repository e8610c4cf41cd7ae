"""Sharpness in a ball, against closed forms, brute force and what it must not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from tests.sharpness.small_losses import (
    classification,
    cross_entropy,
    examples,
    first,
    network,
    of_function,
    quadratic,
    six,
    weights,
)
from vasso_jax.sharpness import average_case, first_order, mean_loss, worst_case

DIAGONAL = np.array([5.0, 1.0, 0.5, 2.0, 0.0, 3.0])
MEASURES = {"worst": worst_case, "average": average_case, "first order": first_order}
every_norm = pytest.mark.parametrize("norm", ["l2", "linf"])


def symmetric():
    x = np.random.default_rng(3).normal(size=(6, 6))
    return x @ x.T


@pytest.mark.slow
def test_the_worst_case_of_a_quadratic_at_its_minimum_is_that_of_the_largest_eigenvalue():
    matrix = symmetric()
    top = np.linalg.eigvalsh(matrix)[-1]
    for radius in (0.1, 2.0):
        found = worst_case(quadratic(matrix), six(np.zeros(6)), radius, steps=60, seed=0)
        np.testing.assert_allclose(found.value, 0.5 * top * radius**2, rtol=1e-3)
        np.testing.assert_allclose(found.norm, radius, rtol=1e-6)
        assert found.loss == 0


def test_the_worst_case_in_a_cube_is_at_a_corner():
    objective = quadratic(np.diag(DIAGONAL))
    found = worst_case(objective, six(np.zeros(6)), 0.3, "linf", seed=1)
    np.testing.assert_allclose(found.value, 0.5 * 0.3**2 * DIAGONAL.sum(), rtol=1e-5)
    assert found.norm == np.float32(0.3)


@pytest.mark.parametrize(("norm", "variance"), [("l2", 1.0), ("linf", 1 / 3)])
def test_the_average_case_of_a_quadratic_is_that_of_the_trace(norm, variance):
    matrix, scale = symmetric(), np.arange(1.0, 7.0)
    found = average_case(quadratic(matrix), six(np.zeros(6)), 0.3, norm, samples=300)
    expected = 0.5 * 0.3**2 * variance * np.trace(matrix)
    assert abs(found.value - expected) < 4 * found.standard_error < 0.4 * expected
    np.testing.assert_allclose(found.value, found.increases.mean())
    np.testing.assert_allclose(found.standard_error, found.increases.std(ddof=1) / np.sqrt(300))
    rms = np.sqrt(np.square(found.norms).mean()) if norm == "l2" else found.norms.max()
    np.testing.assert_allclose(rms, 0.3 * (np.sqrt(6) if norm == "l2" else 1), rtol=0.1)
    # Adaptive, every coordinate has the variance of its size.
    found = average_case(
        quadratic(matrix), six(-scale), 0.3, norm, adaptive=True, samples=300, seed=5
    )
    expected = 0.5 * 0.3**2 * variance * (np.diag(matrix) * scale**2).sum()
    assert abs(found.value - expected) < 4 * found.standard_error


def linear(slopes, params):
    return (params["a"] * slopes["a"]).sum() + (params["b"] * slopes["b"]).sum()


@pytest.mark.parametrize("adaptive", [False, True])
@every_norm
def test_a_linear_loss_grows_by_the_dual_norm(norm, adaptive):
    slopes, w = np.array([1.0, -2, 3, 0, -1, 0.5]), np.array([1.0, 2, -0.5, 4, 0, 1])
    objective = of_function(Partial(linear, six(slopes)))
    seen = slopes * np.abs(w) if adaptive else slopes
    expected = 0.25 * np.linalg.norm(seen, ord=2 if norm == "l2" else 1)
    found = first_order(objective, six(w), 0.25, norm, adaptive=adaptive)
    for value in (found.value, found.prediction):
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(found.norm, 0.25, rtol=1e-6)
    value = worst_case(objective, six(w), 0.25, norm, adaptive=adaptive, steps=3).value
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def tiny(params, x):
    """Of two parameters; the other four have no effect."""
    return jnp.square(jnp.tanh(params["a"][0] * x) * params["a"][1] - jnp.sin(2 * x))


@pytest.mark.slow
@pytest.mark.parametrize("adaptive", [False, True])
@every_norm
def test_the_worst_case_of_a_tiny_network_is_that_of_a_grid(norm, adaptive):
    x, radius, w = np.linspace(-2, 2, 9, dtype=np.float32), 0.4, six([0.8, -1.3, 0, 0, 0, 1])
    objective = mean_loss(tiny, first, x, 4)
    steps = np.linspace(-radius, radius, 201)
    z = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    z = z[np.linalg.norm(z, axis=1, ord=2 if norm == "l2" else np.inf) <= radius * (1 + 1e-9)]
    points = w["a"] + z * (np.abs(w["a"]) if adaptive else 1)
    losses = jax.vmap(lambda a: tiny({"a": a}, x).mean())(jnp.asarray(points, jnp.float32))
    found = worst_case(objective, w, radius, norm, adaptive=adaptive)
    expected = float(losses.max() - tiny(w, x).mean())
    np.testing.assert_allclose(found.value, expected, rtol=2e-3)


def rescaled(w, factor=4.0):
    """The same function: ReLU units are positively homogeneous."""
    return {"w1": w["w1"] * factor, "b1": w["b1"] * factor, "w2": w["w2"] / factor}


@pytest.mark.parametrize(
    ("measure", "norm"),
    [
        ("worst", "l2"),
        pytest.param("worst", "linf", marks=pytest.mark.slow),
        ("first order", "l2"),
        pytest.param("average", "l2", marks=pytest.mark.slow),
    ],
)
def test_only_the_adaptive_measures_do_not_depend_on_the_scales_of_layers(measure, norm):
    objective, w, options = classification(), weights(), {}
    if measure == "average":
        options["samples"] = 3
    values = {
        adaptive: [
            MEASURES[measure](objective, p, 0.05, norm, adaptive=adaptive, **options).value
            for p in (w, rescaled(w))
        ]
        for adaptive in (False, True)
    }
    np.testing.assert_allclose(*values[True], rtol=1e-3)
    assert abs(values[False][1] / values[False][0] - 1) > 0.1


@pytest.mark.slow
def test_normalised_logits_do_not_depend_on_the_scale_of_the_last_layer():
    objective, w = classification(), weights()
    scaled = w | {"w2": 10 * w["w2"]}

    def value(params, normalize_logits):
        return worst_case(
            objective, params, 0.05, adaptive=True, normalize_logits=normalize_logits, steps=5
        )

    before, after = value(w, True), value(scaled, True)
    np.testing.assert_allclose(after.losses, before.losses, rtol=1e-3)
    assert value(scaled, False).value > 2 * value(w, False).value
    # The authors' formula, on the side.
    data = examples()
    logits = np.asarray(network(w, data["x"]))
    centered = logits - logits.mean(axis=1, keepdims=True)
    normed = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    np.testing.assert_allclose(before.loss, cross_entropy(normed, data).mean(), rtol=1e-5)


def test_equal_logits_can_be_normalised():
    w = weights()
    w = w | {"w2": jnp.repeat(w["w2"][:, :1], 4, axis=1)}
    found = first_order(classification(), w, 0.05, adaptive=True, normalize_logits=True)
    assert found.loss == pytest.approx(np.log(4))
    assert np.isfinite(found.value)


def test_with_a_perturbation_per_batch_it_is_the_mean_of_the_batches():
    data, w = examples(13), weights()
    objective = classification(data)  # of 8 and 5 examples
    found = worst_case(objective, w, 0.1, per_batch=True, steps=10)
    predicted = first_order(objective, w, 0.1, per_batch=True)
    parts = [jax.tree.map(lambda x, i=i: x[i : i + 8], data) for i in (0, 8)]
    alone = [worst_case(classification(part), w, 0.1, steps=10) for part in parts]
    expected = np.average([one.value for one in alone], weights=[8, 5])
    np.testing.assert_allclose(found.value, expected, rtol=1e-4)
    np.testing.assert_allclose(found.losses, [one.losses[0] for one in alone], rtol=1e-5)
    assert found.norm == max(one.norm for one in alone)
    linear = [first_order(classification(part), w, 0.1) for part in parts]
    for field in ("value", "prediction", "loss"):
        expected = np.average([getattr(one, field) for one in linear], weights=[8, 5])
        np.testing.assert_allclose(getattr(predicted, field), expected, rtol=1e-4)
    # One perturbation for all cannot be worse for each of them than their own.
    whole = worst_case(objective, w, 0.1, steps=10)
    assert found.value > 1.05 * whole.value
    assert len(whole.losses) == 1
    np.testing.assert_allclose(found.loss, whole.loss, rtol=1e-6)


@every_norm
def test_the_worst_case_is_at_least_the_first_order_value_and_never_falls(norm):
    objective, w = classification(), weights()
    for radius in (0.01, 0.3):
        reached = first_order(objective, w, radius, norm)
        found = worst_case(objective, w, radius, norm, steps=8)
        # The first step of the ascent ends there.
        np.testing.assert_allclose(found.losses[0, 1] - found.loss, reached.value, rtol=1e-3)
        assert found.value >= reached.value * (1 - 1e-4)
        assert (np.diff(found.losses[0]) >= 0).all()
        np.testing.assert_allclose(found.losses[0, -1] - found.loss, found.value)
        assert found.norm <= radius * (1 + 1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_data_twice_are_the_data(measure):
    data, w = examples(8), weights()
    twice = jax.tree.map(lambda x: np.concatenate([x, x]), data)
    options = {"samples": 3} if measure == "average" else {}
    values = [MEASURES[measure](classification(d), w, 0.1, **options).value for d in (data, twice)]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-4)


def test_one_program_serves_all_radii_and_steps_and_all_passes_are_reported():
    traces = []

    def traced(params, batch):
        traces.append(1)
        return network(params, batch["x"])

    objective, w, reports = mean_loss(traced, cross_entropy, examples(), 8), weights(), []
    found = worst_case(objective, w, 0.1, steps=5, progress=lambda *args: reports.append(args))
    assert reports == [(i, 7) for i in range(1, 8)]
    assert found.passes == 7
    first = len(traces)
    for radius, steps in ((0.2, 5), (0.3, 7)):
        worst_case(objective, w, radius, steps=steps)
    assert len(traces) == first
    reports.clear()
    found = worst_case(
        objective, w, 0.1, steps=2, per_batch=True, progress=lambda *args: reports.append(args)
    )
    assert reports == [(i, 7) for i in range(1, 8)]  # a check, and three of each of two batches
    assert found.passes == 4


def test_a_random_start_is_in_the_ball_and_depends_on_the_seed():
    for norm in ("l2", "linf"):
        found = [
            worst_case(quadratic(symmetric()), six(np.ones(6)), 0.2, norm, steps=1, seed=seed)
            for seed in (0, 0, 1)
        ]
        assert found[0].value == found[1].value != found[2].value
        assert all(one.norm <= 0.2 * (1 + 1e-6) for one in found)
        assert (found[0].passes, found[0].random_starts) == (4, 1)


@every_norm
def test_where_the_gradient_is_zero_the_first_step_is_a_random_one(norm):
    objective, params, reports = quadratic(np.diag(DIAGONAL)), six(np.zeros(6)), []
    found = worst_case(objective, params, 0.3, norm, progress=lambda *args: reports.append(args))
    largest = 5.0 if norm == "l2" else DIAGONAL.sum()
    np.testing.assert_allclose(found.value, 0.5 * 0.3**2 * largest, rtol=1e-2)
    np.testing.assert_allclose(found.norm, 0.3, rtol=1e-6)
    # It takes no more passes.
    assert reports == [(i, 22) for i in range(1, 23)]
    assert (found.passes, found.random_starts) == (22, 1)
    again = worst_case(objective, params, 0.3, norm)
    np.testing.assert_array_equal(again.losses, found.losses)


def test_a_constant_loss_has_a_worst_case_of_zero():
    found = worst_case(quadratic(np.zeros((6, 6))), six(np.ones(6)), 0.5, steps=2)
    assert (found.value, found.norm, found.random_starts) == (0, 0, 1)
