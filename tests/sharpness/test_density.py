"""Spectral densities against the eigenvalues of dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from scipy.stats import wasserstein_distance

from tests.sharpness import problems
from tests.sharpness.problems import with_eigenvalues, with_hessian
from vasso_jax.sharpness import Density, hessian, mean_loss, spectral_density


def distance(density, values):
    """Wasserstein-1 between the two measures, over the range of the eigenvalues."""
    return wasserstein_distance(density.nodes, values, density.weights) / np.ptp(values)


@pytest.mark.slow
def test_the_density_of_a_perceptron_is_that_of_the_dense_hessian(x64):
    params, data = problems.of_perceptron(12, 6, 6)
    objective = mean_loss(problems.perceptron, problems.cross_entropy, data, 4)
    matrix = problems.formed(problems.mean(problems.perceptron, data), params)
    values = np.linalg.eigvalsh(matrix)
    found = spectral_density(hessian(objective, params), probes=20, steps=40)
    assert distance(found, values) < 0.01
    assert found.products == 800
    # The share of negative eigenvalues, and of those in each tenth of the range.
    grid = np.linspace(values[0], values[-1], 11)[1:-1]
    exact = (values <= grid[:, None]).mean(axis=1)
    np.testing.assert_allclose(found.cumulative(grid), exact, atol=0.03)
    np.testing.assert_allclose([found.nodes.min(), found.nodes.max()], values[[0, -1]], atol=1e-6)
    np.testing.assert_allclose(found.weights.sum(), 1)
    assert (np.diff(found.nodes) >= 0).all()


def test_with_more_probes_planted_densities_are_met(x64):
    values = np.r_[np.linspace(-1, 0, 30), np.full(20, 2.0), 5.0]
    found = spectral_density(with_hessian(with_eigenvalues(values)), probes=200, steps=20)
    assert distance(found, values) < 0.01
    assert abs(found.weights[found.nodes > 4].sum() - 1 / 51) < 0.01


def test_a_few_steps_have_the_moments_of_many(x64):
    operator = with_hessian(with_eigenvalues(np.linspace(-1, 2, 60)))
    few, many = (spectral_density(operator, 2, steps) for steps in (4, 30))
    for power in range(8):
        few_, many_ = ((d.nodes**power * d.weights).sum() for d in (few, many))
        np.testing.assert_allclose(few_, many_, rtol=1e-10)
    assert not np.isclose((few.nodes**8 * few.weights).sum(), (many.nodes**8 * many.weights).sum())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "values",
    [
        np.ones(30),
        np.zeros(30),
        np.r_[np.ones(15), -np.ones(15)],
        np.r_[np.zeros(26), 1, 2, 3, 1000],
    ],
)
def test_steps_beyond_an_invariant_subspace_are_left_out(values, dtype):
    with jax.enable_x64(dtype == "float64"):
        found = spectral_density(with_hessian(with_eigenvalues(values)), probes=2, steps=30)
    gap = np.abs(found.nodes[:, None] - np.unique(values)).min(axis=1)
    assert gap.max() <= 1e-5 * np.abs(values).max()
    assert len(found.nodes) <= 2 * len(np.unique(values))
    np.testing.assert_allclose(found.weights.sum(), 1)


def test_smoothing_two_nodes():
    density = Density(np.array([0.0, 3.0]), np.array([0.25, 0.75]), 2)
    peak = 1 / (0.1 * np.sqrt(2 * np.pi))
    found = density.smoothed([0.0, 0.1, 1.5, 3.0], width=0.1)
    np.testing.assert_allclose(
        found, [peak / 4, peak / 4 * np.exp(-0.5), 0, 3 * peak / 4], atol=1e-12
    )
    np.testing.assert_array_equal(density.cumulative([-1.0, 0.0, 2.9, 3.0]), [0, 0.25, 0.25, 1])
    smooth = density.cumulative([0.0, 1.5, 3.1], width=0.1)
    np.testing.assert_allclose(smooth, [0.125, 0.25, 0.25 + 0.75 * 0.8413447], atol=1e-6)


def test_one_program_serves_all_probes_and_other_data():
    traces, calls = [], []

    def counted(params, batch):
        traces.append(1)
        return problems.perceptron(params, batch)

    for seed in range(2):
        params, data = problems.of_perceptron(seed=seed)
        operator = hessian(mean_loss(counted, problems.cross_entropy, data, 4), params)
        found = spectral_density(operator, 3, 5, progress=lambda *call: calls.append(call))
        if not seed:
            first = len(traces)
    assert len(traces) == first
    assert calls == [(5, 15), (10, 15), (15, 15)] * 2
    again = spectral_density(operator, 3, 5)
    np.testing.assert_array_equal(again.nodes, found.nodes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_eight_devices_give_the_density_of_one(kind):
    objective, params = problems.for_several_devices()
    split, shared, mesh = problems.on_all_devices(objective, params, kind, spread=True)
    expected = spectral_density(hessian(objective, params), 2, 6)
    with jax.set_mesh(mesh):
        found = spectral_density(hessian(split, shared), 2, 6)
    np.testing.assert_allclose(found.nodes, expected.nodes, atol=1e-5)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-4)


def test_a_product_that_is_not_finite_is_refused():
    def outputs(params, batch):
        return batch * jnp.sum(jnp.abs(params["x"]) ** 1.5)

    operator = hessian(mean_loss(outputs, problems.itself, np.ones(1), 1), {"x": np.zeros(30)})
    with pytest.raises(ValueError, match="a second derivative"):
        spectral_density(operator, 1, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5), "probes must be an integer of at least 1"),
        ((1.5, 5), "probes must be an integer of at least 1"),
        ((1, 5.0), "steps must be an integer of at least 1"),
        ((1, 31), "steps must be 1 to 30"),
        ((1, 0), "steps must be an integer of at least 1"),
        ((1, 2, -1), "seed must be an integer of at least 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        spectral_density(with_hessian(np.eye(30)), *arguments)
    with pytest.raises(ValueError, match="operator must be a matrix"):
        spectral_density(np.eye(30), 1, 2)


@pytest.mark.parametrize("width", [-1.0, np.nan, "wide"])
def test_a_grid_and_a_width_are_of_numbers(width):
    density = Density(np.array([0.0]), np.array([1.0]), 1)
    with pytest.raises(ValueError, match="width must be a positive number, got"):
        density.smoothed([0.0], width)
    with pytest.raises(ValueError, match="width must be a number of at least 0, got"):
        density.cumulative([0.0], width)
    with pytest.raises(ValueError, match="width must be a positive number, got 0"):
        density.smoothed([0.0], 0)
    for grid in (0.0, [], [np.nan], ["a"]):
        for function in (density.smoothed, density.cumulative):
            with pytest.raises(ValueError, match="grid must be a list of finite numbers"):
                function(grid, 0.1)
