"""The trace of a curvature matrix, of all of it and per layer, by random vectors."""

from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.linalg import qr

from vasso_jax.sharpness.checks import check_count
from vasso_jax.sharpness.host_vectors import HostOperator
from vasso_jax.sharpness.operators import Operator, Vector, check_operator
from vasso_jax.sharpness.progress import Progress

METHODS = ("hutchinson", "hutch++")


class Trace(NamedTuple):
    """An unbiased estimate of a trace.

    Attributes:
        value: of the whole matrix.
        standard_error: of `value`; 0 where the estimate is exact.
        layers: a tree like the parameters (None where the mask leaves a leaf out) with the trace of
            the diagonal block of each leaf, a float. They add up to `value`.
        products: how many passes over the data it took.
    """

    value: float
    standard_error: float
    layers: Vector
    products: int


def trace(
    operator: Operator,
    samples: int,
    seed: int = 0,
    method: str = "hutchinson",
    progress: Progress | None = None,
) -> Trace:
    """The trace of H as a mean over random signs v.

    "hutchinson" is the mean of v^T H v, whose variance is 2 (||H||_F^2 - sum_i H_ii^2) per sample.

    "hutch++" (arXiv 2010.09649, algorithm 1) spends a third of the products on an orthonormal basis
    Q that captures the large eigenvalues and a third on their exact part, tr Q^T H Q; the others
    give Hutchinson's estimate of what is left, tr P H P with P = 1 - Q Q^T. It is better where a
    few eigenvalues dominate. Q, samples / 3 vectors in float64, lies in host memory, with a few
    vectors besides.

    The standard error is that of the mean over the samples. For "hutch++" it is the one given Q,
    and the exact part has none.

    Args:
        operator: the matrix H.
        samples: products to make, at least 2, or for "hutch++" at least 4.
        seed: of the random signs.
        method: one of METHODS.
        progress: is called after each product with the products made and `samples`.

    Raises:
        ValueError: the method is unknown, there are too few samples, an argument is of another
            type, or a product is not finite.
    """
    check_operator(operator)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    least = 2 if method == "hutchinson" else 4
    check_count(f"the samples of {method}", samples, least)
    check_count("seed", seed, least=0)
    multiply = HostOperator(operator, samples, progress)
    rng = np.random.default_rng(seed)

    def signs() -> np.ndarray:
        return rng.choice([-1.0, 1.0], multiply.size)

    basis = np.empty((0, multiply.size))  # rows
    if method == "hutch++":
        sketch = np.empty((min(samples // 3, multiply.size), multiply.size))
        for row in sketch:
            row[:] = multiply(signs())
        # In place: its columns are contiguous, as LAPACK wants them.
        factors: Any = qr(sketch.T, overwrite_a=True, mode="economic", check_finite=False)
        basis = factors[0].T
    exact = _captured(multiply, basis)
    rest = np.stack(
        [_left(multiply, basis, signs()) for _ in range(samples - multiply.products)]
    )  # [samples, leaves]
    layers = exact + rest.mean(axis=0)
    return Trace(
        value=float(layers.sum()),
        standard_error=float(rest.sum(axis=1).std(ddof=1) / len(rest) ** 0.5),
        layers=jax.tree.unflatten(jax.tree.structure(multiply.like), layers.tolist()),
        products=multiply.products,
    )


def _captured(multiply: HostOperator, basis: np.ndarray) -> np.ndarray:
    """Per leaf, the trace of H - P H P = R H + H R - R H R with R = Q Q^T and P = 1 - R."""
    total = np.zeros(len(jax.tree.leaves(multiply.like)))
    for vector in basis:
        product = multiply(vector)
        total += _per_leaf(vector, 2 * product - (basis @ product) @ basis, multiply.like)
    return total


def _left(multiply: HostOperator, basis: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Per leaf, an estimate of the trace of P H P."""

    def project(vector: np.ndarray) -> np.ndarray:
        return vector - (basis @ vector) @ basis

    return _per_leaf(signs, project(multiply(project(signs))), multiply.like)


def _per_leaf(left: np.ndarray, right: np.ndarray, like: Vector) -> np.ndarray:
    """The inner product of two flat vectors, leaf by leaf."""
    ends = np.cumsum([leaf.size for leaf in jax.tree.leaves(like)])
    return np.array([part.sum() for part in np.split(left * right, ends[:-1])])
