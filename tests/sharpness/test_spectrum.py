"""Eigenvalues of small losses against those of the dense matrix, and of matrices made for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import ArpackError

from tests.sharpness import problems
from tests.sharpness.problems import flat, with_eigenvalues, with_hessian
from vasso_jax.sharpness import eigenvalues, fisher, gauss_newton, hessian, mean_loss, spectrum

CASES = {
    "perceptron, 162": (problems.perceptron, functools.partial(problems.of_perceptron, 12, 6, 6)),
    "perceptron, 1756": (
        problems.perceptron,
        functools.partial(problems.of_perceptron, 60, 12, 16),
    ),
    "batch statistics": (problems.network, problems.of_network),
}


def objective_of(outputs, data):
    return mean_loss(outputs, problems.cross_entropy, data, 4)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if "1756" in case else ()) for case in CASES]
)
def test_every_eigenvalue_asked_for_is_that_of_the_dense_matrix(case, x64):
    outputs, of = CASES[case]
    params, data = of()
    matrix = problems.formed(problems.mean(outputs, data), params)
    expected = np.linalg.eigvalsh(matrix)[::-1]
    found = eigenvalues(hessian(objective_of(outputs, data), params), 5, 3, tolerance=1e-9)
    np.testing.assert_allclose(found.values, [*expected[:5], *expected[-3:]], rtol=0, atol=1e-8)
    vectors = np.stack([flat(vector) for vector in found.vectors])
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(8), atol=1e-6)
    errors = np.linalg.norm(matrix @ vectors.T - vectors.T * found.values, axis=0)
    np.testing.assert_allclose(found.residuals, errors, atol=1e-12)
    assert found.residuals.max() < 1e-8 * expected[0]
    assert jax.tree.map(np.shape, found.vectors[0]) == jax.tree.map(np.shape, params)


def trained():
    """(objective, params) of a perceptron that fits its labels, which a linear rule has made."""
    params, data = problems.of_perceptron(16, 6, 4, examples=60)
    data["labels"] = (data["x"] @ np.random.default_rng(3).normal(size=(6, 4))).argmax(1)
    params, data["x"] = jax.tree.map(lambda x: x.astype(np.float32), (params, data["x"]))
    objective = mean_loss(problems.perceptron, problems.cross_entropy, data, 60)

    @jax.jit
    def descend(params):
        def step(_, params):
            return jax.tree.map(lambda w, g: w - g, params, objective.value_and_grad(params)[1])

        return jax.lax.fori_loop(0, 1000, step, params)

    return objective, descend(params)


@pytest.mark.slow
def test_at_a_minimum_the_smallest_eigenvalues_are_found_among_many_near_zero():
    objective, params = trained()
    expected = np.linalg.eigvalsh(problems.formed(objective.value, params).astype(float))
    assert -expected[0] < 0.01 * expected[-1]
    found = eigenvalues(hessian(objective, params), 1, 2, tolerance=1e-2)
    np.testing.assert_allclose(found.values, expected[[-1, 1, 0]], rtol=0.05)
    assert (found.residuals <= 0.1 * np.abs(found.values)).all()


def test_a_smallest_eigenvalue_of_zero_is_told_by_its_residual():
    objective, params = trained()
    found = eigenvalues(gauss_newton(objective, params), 1, 1, tolerance=1e-3, restarts=10)
    assert np.abs(found.values[1]) < 1e-3 * found.values[0]
    assert found.residuals[1] > 0.1 * np.abs(found.values[1])


SIZE = 40


@settings(max_examples=8)
@given(
    ends=st.lists(st.floats(2, 100), min_size=4, max_size=4),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    sign=st.sampled_from([-1, 1]),
)
def test_planted_eigenvalues_are_found(ends, scale, sign):
    """With equal ones among them, and zeros, and any scale."""
    values = (
        scale * sign * np.array([*ends, ends[0], *np.zeros(10), *np.linspace(-1, 1, SIZE - 15)])
    )
    with jax.enable_x64(True):
        found = eigenvalues(with_hessian(with_eigenvalues(values)), 3, 2, tolerance=1e-8)
    expected = np.sort(values)[::-1]
    bound = 1e-6 * np.abs(values).max()
    np.testing.assert_allclose(found.values[[0, -1]], expected[[0, -1]], atol=bound)
    # Each is an eigenvalue; a further copy of one may be missing.
    assert max(np.abs(expected - value).min() for value in found.values) < bound
    assert (found.residuals < 1e-7 * np.abs(values).max()).all()


@pytest.mark.parametrize(
    "values", [np.zeros(30), np.full(30, -2.0), np.r_[np.ones(15), -np.ones(15)]]
)
def test_a_matrix_with_one_or_two_eigenvalues(values, x64):
    found = eigenvalues(with_hessian(with_eigenvalues(values)), 2, 2)
    np.testing.assert_allclose(found.values, [values[0]] * 2 + [values[-1]] * 2, atol=1e-9)


def test_a_breakdown_of_arpack_is_an_error_with_a_way_out(monkeypatch):
    def broken(*args, **kwargs):
        raise ArpackError(-9)

    monkeypatch.setattr(spectrum, "eigsh", broken)
    with pytest.raises(ValueError, match="try another seed or another start; ARPACK says"):
        eigenvalues(with_hessian(np.eye(30)))


def test_of_a_small_matrix_all_eigenvalues_can_be_had(x64):
    found = eigenvalues(with_hessian(with_eigenvalues([3.0, -1.0, 0.5])), 1, 2)
    np.testing.assert_allclose(found.values, [3, 0.5, -1], atol=1e-12)
    assert found.products == 6
    largest = eigenvalues(with_hessian(with_eigenvalues([3.0, -1.0, 0.5])))
    np.testing.assert_allclose(largest.values, [3])


def test_the_saddle_of_a_product_has_negative_curvature(x64):
    # L = (1 - u . v)^2 / 2 at 0 has the Hessian [[0, -1], [-1, 0]].
    def outputs(params, batch):
        return batch - params["u"] @ params["v"]

    def losses(outputs, batch):
        return outputs**2 / 2

    zeros = {"u": np.zeros(15), "v": np.zeros(15)}
    objective = mean_loss(outputs, losses, np.ones(1), 1)
    assert not flat(objective.value_and_grad(zeros)[1]).any()
    np.testing.assert_allclose(eigenvalues(hessian(objective, zeros), 1, 1).values, [1, -1])
    np.testing.assert_allclose(eigenvalues(fisher(objective, zeros), 1, 1).values, [0, 0])


def test_a_mask_gives_the_eigenvalues_of_the_block(x64):
    matrix = with_eigenvalues(np.linspace(-3, 5, 60))
    params = {"a": np.ones(25), "b": np.ones((5, 7))}
    operator = hessian(
        mean_loss(problems.quadratic_form, problems.itself, matrix[None], 1),
        params,
        {"a": False, "b": True},
    )
    found = eigenvalues(operator, 2, 1, tolerance=1e-9)
    expected = np.linalg.eigvalsh(matrix[25:, 25:])[::-1]
    np.testing.assert_allclose(found.values, expected[[0, 1, -1]], atol=1e-8)
    assert found.vectors[0]["a"] is None
    assert found.vectors[0]["b"].shape == (5, 7)


def test_float32_products_are_as_accurate_as_they_can_be():
    operator = with_hessian(with_eigenvalues(np.r_[100, 90, np.linspace(-1, 1, SIZE - 2)]))
    found = eigenvalues(operator, 2, 1)
    np.testing.assert_allclose(found.values, [100, 90, -1], atol=2e-4)
    assert found.vectors[0]["x"].dtype == np.float32


def test_a_start_near_the_answer_saves_products_and_the_seed_fixes_the_rest():
    matrix = with_eigenvalues(np.r_[1.01, np.linspace(0, 1, 199)])
    first = eigenvalues(with_hessian(matrix))
    again = eigenvalues(with_hessian(matrix))
    np.testing.assert_array_equal(first.vectors[0]["x"], again.vectors[0]["x"])
    other = eigenvalues(with_hessian(matrix), seed=1)
    assert not np.array_equal(first.vectors[0]["x"], other.vectors[0]["x"])
    warm = eigenvalues(with_hessian(matrix), start=first.vectors[0])
    assert warm.products < first.products
    np.testing.assert_allclose(warm.values, first.values, rtol=1e-5)


def test_every_product_is_reported():
    calls = []
    operator = with_hessian(with_eigenvalues(np.linspace(0, 1, 60)))
    found = eigenvalues(operator, 2, 1, progress=lambda *call: calls.append(call))
    assert [done for done, _ in calls] == list(range(1, found.products + 1))
    assert all(done <= expected for done, expected in calls)
    assert calls[0][1] > 40


def test_eigenvalues_that_do_not_converge_are_an_error_that_says_which_did():
    values = np.r_[50.0, np.linspace(0, 1, 199)]
    operator = with_hessian(with_eigenvalues(values))
    with pytest.raises(ValueError, match=r"1 of the 3 largest .* \(50\) within 1 restarts"):
        eigenvalues(operator, 3, tolerance=1e-6, restarts=1)


def test_a_loss_without_a_second_derivative_is_refused():
    def outputs(params, batch):
        return batch * jnp.sum(jnp.abs(params["x"]) ** 1.5)

    params = {"x": np.zeros(30)}
    objective = mean_loss(outputs, problems.itself, np.ones(1), 1)
    with pytest.raises(ValueError, match="a second derivative"):
        eigenvalues(hessian(objective, params))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"largest": 0}, "together 1 to 30"),
        ({"largest": -1, "smallest": 2}, "largest must be an integer of at least 0"),
        ({"largest": 1, "smallest": 1.0}, "smallest must be an integer of at least 0"),
        ({"largest": 20, "smallest": 11}, "together 1 to 30"),
        ({"tolerance": 0.0}, "tolerance must be a positive number below 1, got 0.0"),
        ({"tolerance": "x"}, "tolerance must be a positive number below 1, got 'x'"),
        ({"seed": "x"}, "seed must be an integer of at least 0, got 'x'"),
        ({"operator": 3}, "operator must be a matrix that hessian, .* has made, not int"),
        ({"restarts": 0}, "restarts must be an integer of at least 1"),
        ({"start": {"x": np.zeros(30)}}, "must not be zero"),
        ({"start": {"x": np.full(30, np.nan)}}, "finite"),
        ({"start": {"x": np.ones(29)}}, "start must have the shapes"),
        ({"start": {"y": np.ones(30)}}, "start must have the structure"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        eigenvalues(**({"operator": with_hessian(np.eye(30))} | arguments))
