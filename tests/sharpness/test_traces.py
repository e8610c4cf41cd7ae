"""Traces of matrices that are known, and whether their standard errors are honest."""

import itertools

import jax
import numpy as np
import pytest

from tests.sharpness import problems
from tests.sharpness.problems import with_eigenvalues, with_hessian
from vasso_jax.sharpness import hessian, mean_loss, trace
from vasso_jax.sharpness.host_vectors import HostOperator
from vasso_jax.sharpness.traces import METHODS, _captured, _left

both = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def perceptron():
    """Operator and dense Hessian of a perceptron, in float64."""
    with jax.enable_x64(True):
        params, data = problems.of_perceptron()
        objective = mean_loss(problems.perceptron, problems.cross_entropy, data, 4)
        matrix = problems.formed(problems.mean(problems.perceptron, data), params)
        yield hessian(objective, params), matrix


@both
def test_the_trace_is_within_three_standard_errors_and_layers_add_up(perceptron, method):
    operator, matrix = perceptron
    found = trace(operator, 60, method=method)
    assert abs(found.value - np.trace(matrix)) < 3 * found.standard_error
    assert found.products == 60
    np.testing.assert_allclose(sum(jax.tree.leaves(found.layers)), found.value, rtol=1e-12)
    # The leaves are sorted by name: head, then hidden, and of each the bias before the kernel.
    ends = np.cumsum([4, 20, 5])
    exact = [block.sum() for block in np.split(np.diag(matrix), ends)]
    np.testing.assert_allclose(jax.tree.leaves(found.layers), exact, atol=4 * found.standard_error)
    assert found.standard_error < 0.15 * np.trace(matrix)


@pytest.mark.slow
@both
def test_layers_are_unbiased_and_standard_errors_honest(method, x64):
    matrix = with_eigenvalues(np.r_[20.0, -10.0, np.linspace(-1, 1, 22)])
    operator = with_hessian(matrix, {"a": np.ones(10), "b": np.ones((2, 7))})
    found = [trace(operator, 24, seed, method) for seed in range(80)]
    scores = np.array([(each.value - np.trace(matrix)) / each.standard_error for each in found])
    # Student's t with 23, or with 7 degrees of freedom: a variance of 1.1, or 1.4.
    assert 0.7 < scores.std() < 1.6
    assert abs(scores.mean()) < 0.5
    for name, part in (("a", slice(10)), ("b", slice(10, None))):
        layer = np.array([each.layers[name] for each in found])
        error = layer.std() / len(layer) ** 0.5
        assert abs(layer.mean() - np.diag(matrix)[part].sum()) < 3.5 * error


def test_over_all_signs_the_mean_is_exact_per_layer_whatever_was_captured(x64):
    matrix = with_eigenvalues([5.0, 2.0, 1.0, 0.0, -1.0, -3.0])
    params = {"a": np.ones(2), "b": np.ones(4)}
    multiply = HostOperator(with_hessian(matrix, params), 66, None)
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))[0].T
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=6)))
    samples = np.array([_left(multiply, basis, v) for v in signs])
    found = _captured(multiply, basis) + samples.mean(axis=0)
    diagonal = np.diag(matrix)
    np.testing.assert_allclose(found, [diagonal[:2].sum(), diagonal[2:].sum()], atol=1e-12)
    rest = np.eye(6) - basis.T @ basis
    wanted = np.einsum("si,ij,sj->s", signs, rest @ matrix @ rest, signs)
    np.testing.assert_allclose(samples.sum(axis=1), wanted, atol=1e-12)


def test_a_few_large_eigenvalues_are_captured_by_hutch_plus_plus(x64):
    matrix = with_eigenvalues(np.r_[100, 50, -30, np.linspace(0, 0.1, 57)])
    simple, better = (trace(with_hessian(matrix), 30, method=method) for method in METHODS)
    assert better.standard_error < 0.02 * simple.standard_error
    assert abs(better.value - np.trace(matrix)) < 4 * better.standard_error


def test_of_a_matrix_of_low_rank_hutch_plus_plus_is_exact(x64):
    values = np.r_[3.0, 2.0, -1.0, np.zeros(57)]
    found = trace(with_hessian(with_eigenvalues(values)), 12, method="hutch++")
    np.testing.assert_allclose(found.value, 4, rtol=1e-12)
    assert found.standard_error < 1e-12


def test_of_a_diagonal_matrix_one_sample_is_exact():
    found = trace(with_hessian(np.diag(np.arange(30))), 2)
    np.testing.assert_allclose(found.value, 435, rtol=1e-6)
    assert found.standard_error < 1e-4


def test_the_seed_fixes_the_estimate_and_products_are_reported():
    operator, calls = with_hessian(with_eigenvalues(np.linspace(0, 1, 30))), []
    found = trace(operator, 7, 3, "hutch++", lambda *call: calls.append(call))
    assert calls == [(i, 7) for i in range(1, 8)]
    assert trace(operator, 7, 3, "hutch++") == found
    assert trace(operator, 7, 4, "hutch++").value != found.value


def test_a_mask_leaves_a_layer_out(x64):
    params = {"a": np.ones(10), "b": np.ones(20)}
    objective = mean_loss(
        problems.quadratic_form, problems.itself, np.diag(np.arange(30.0))[None], 1
    )
    found = trace(hessian(objective, params, {"a": True, "b": False}), 2)
    assert found.layers == {"a": 45.0, "b": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1,), "samples of hutchinson must be an integer of at least 2, got 1"),
        ((10.5,), "must be an integer of at least 2, got 10.5"),
        ((3, 0, "hutch++"), r"samples of hutch\+\+ must be an integer of at least 4"),
        ((10, 0, "xtrace"), r"one of hutchinson, hutch\+\+, got 'xtrace'"),
        ((10, "x"), "seed must be an integer of at least 0, got 'x'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        trace(with_hessian(np.eye(30)), *arguments)
    with pytest.raises(ValueError, match="operator must be a matrix"):
        trace(np.eye(30), 10)
