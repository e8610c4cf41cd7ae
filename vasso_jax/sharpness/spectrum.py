"""Extreme eigenvalues of a curvature matrix, by ARPACK."""

import inspect
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

from vasso_jax.sharpness.checks import check_count, check_like, check_positive
from vasso_jax.sharpness.host_vectors import HostOperator, flatten, unflatten
from vasso_jax.sharpness.operators import Operator, Vector, check_operator
from vasso_jax.sharpness.progress import Progress

# It draws new vectors where an invariant subspace ends the iteration.
_TAKES_RNG = "rng" in inspect.signature(eigsh).parameters

# Products for the size of the largest eigenvalue; a factor of two does not matter.
_POWER_STEPS = 5

# A pair is taken once its residual is at most this share of its value.
_SHARE = 0.1

# No tolerance is made smaller than that, as the rounding of the products is near.
_LEAST_TOLERANCE = {"float32": 1e-6, "float64": 1e-10}


class Eigenpairs(NamedTuple):
    """The eigenvalues asked for, K in all, with their eigenvectors.

    Attributes:
        values: float [K], descending: the largest ones, then the smallest ones. The ratio of the
            first to the fifth is `values[0] / values[4]`.
        vectors: a tuple of K trees of arrays in host memory, like the parameters (None where the
            mask leaves a leaf out), each of norm 1.
        residuals: float [K], ||H v - value v||. Some eigenvalue is at most as far from `value`. It
            is not sure to be the outermost one, least of all where a residual is as large as the
            value: such a value says no more than that it is near zero.
        products: how many passes over the data it took.
    """

    values: np.ndarray
    vectors: tuple[Vector, ...]
    residuals: np.ndarray
    products: int


class _Pair(NamedTuple):
    value: float
    vector: np.ndarray
    residual: float


class _NotFound(ValueError):
    """ARPACK broke down, or was out of restarts."""


def eigenvalues(
    operator: Operator,
    largest: int = 1,
    smallest: int = 0,
    tolerance: float = 1e-4,
    seed: int = 0,
    start: Vector | None = None,
    progress: Progress | None = None,
    restarts: int = 100,
) -> Eigenpairs:
    """The largest and the smallest eigenvalues, by implicitly restarted Lanczos iterations.

    ARPACK keeps its basis, max(2 k + 1, 20) float64 vectors for k eigenvalues, in host memory, and
    as many again where it makes eigenvectors of it: with what is smaller, 46 vectors for the
    largest one, and 51 for the five largest and the smallest one, were measured. The device holds
    no more than a product needs. A matrix with no more rows than the basis has vectors is formed
    instead. Of an eigenvalue of a multiplicity above 1, fewer copies may be found.

    At the minimum of a network most eigenvalues are near zero, and so are the smallest ones: a
    residual that is small beside the largest eigenvalue can be larger than they are. So each end is
    taken up again with a tenth of the tolerance, from what was found, until every residual is at
    most a tenth of its value. That ends where the precision of the products does, at a tolerance of
    1e-6 (float64: 1e-10), or with the restarts; the residuals then show that it did. Where the
    smallest eigenvalue is zero, as of a Gauss-Newton matrix, all of these restarts may be spent.

    Args:
        operator: the matrix H.
        largest: how many of the largest eigenvalues (not: of the largest absolute values).
        smallest: how many of the smallest, such as the most negative ones.
        tolerance: of a residual, relative to the largest absolute eigenvalue, at most. The error of
            an eigenvalue is of the order of the residual squared over the distance to the next one.
            float32 products allow about 1e-5.
        seed: of the random start vector; from SciPy 1.17 on also of those that ARPACK draws where
            the vectors so far span an invariant subspace.
        start: a tree like a vector, to start from instead; such as the sum of the eigenvectors at
            parameters near by.
        progress: is called after each product with the products made and those expected in all. The
            latter is a guess, as the number of restarts is not known before.
        restarts: how many are allowed for each end of the spectrum, at the tolerance, and as many
            again for smaller ones.

    Raises:
        ValueError: an argument is of another type or out of range, `start` does not fit or is
            zero, a product is not finite, ARPACK breaks down, or some eigenvalues have not
            converged; the message has those that have.
    """
    _check(operator, largest, smallest, tolerance, restarts)
    check_count("seed", seed, least=0)
    multiply = HostOperator(operator, expected=0, progress=progress)
    first = _start(multiply, start, seed)
    if multiply.size <= _basis(max(largest, smallest), multiply.size):
        multiply.expected = multiply.size + largest + smallest
        pairs = _pairs(multiply, _dense(multiply, largest, smallest))
    else:
        bases = sum(_basis(k, multiply.size) for k in (largest, smallest) if k)
        multiply.expected = _POWER_STEPS + bases + largest + smallest
        scale = _scale(multiply, first)
        pairs = [
            *_end(multiply, first, largest, 2 * scale, "largest", tolerance, restarts, seed),
            *_end(multiply, first, smallest, -2 * scale, "smallest", tolerance, restarts, seed),
        ]
    return Eigenpairs(
        np.array([pair.value for pair in pairs]),
        tuple(unflatten(pair.vector, multiply.like) for pair in pairs),
        np.array([pair.residual for pair in pairs]),
        multiply.products,
    )


def _check(operator, largest, smallest, tolerance, restarts):
    check_operator(operator)
    check_count("largest", largest, least=0)
    check_count("smallest", smallest, least=0)
    if not 1 <= largest + smallest <= operator.size:
        raise ValueError(
            f"largest={largest} and smallest={smallest} must be together 1 to {operator.size}, the "
            "number of parameters"
        )
    check_positive("tolerance", tolerance, below=1)
    check_count("restarts", restarts)


def _start(multiply: HostOperator, start: Vector | None, seed: int) -> np.ndarray:
    if start is None:
        return np.random.default_rng(seed).normal(size=multiply.size)
    check_like(start, multiply.like, "start")
    flat = flatten(start)
    if not flat.any():
        raise ValueError("start must not be zero")
    return flat


def _basis(count: int, size: int) -> int:
    return min(max(2 * count + 1, 20), size)


def _dense(multiply: HostOperator, largest: int, smallest: int) -> list[np.ndarray]:
    matrix = np.stack([multiply(column) for column in np.eye(multiply.size)])
    vectors = np.linalg.eigh((matrix + matrix.T) / 2)[1].T[::-1]
    return [*vectors[:largest], *vectors[multiply.size - smallest :]]


def _scale(multiply: HostOperator, vector: np.ndarray) -> float:
    """About the largest absolute eigenvalue, from below; 1 for the zero matrix."""
    scale = 0.0
    for _ in range(_POWER_STEPS):
        vector = multiply(vector / np.linalg.norm(vector))
        scale = float(np.linalg.norm(vector))
        if not scale:
            return 1.0
    return scale


def _end(multiply, first, count, shift, end, tolerance, restarts, seed) -> list[_Pair]:
    """The pairs of one end of the spectrum, with residuals that are small beside the values too."""
    if not count:
        return []
    columns = _arpack(multiply, first, count, shift, end, tolerance, restarts, seed)
    pairs = _pairs(multiply, columns)
    least = max(_LEAST_TOLERANCE[str(x.dtype)] for x in jax.tree.leaves(multiply.like))
    before = multiply.products
    while tolerance > least and any(pair.residual > _SHARE * abs(pair.value) for pair in pairs):
        tolerance = max(tolerance / 10, least)
        left = restarts - (multiply.products - before) // (_basis(count, multiply.size) - count)
        if left < 1:
            break
        start = np.sum([pair.vector for pair in pairs], axis=0)
        try:
            columns = _arpack(multiply, start, count, shift, end, tolerance, left, seed)
        except _NotFound:
            break
        pairs = _pairs(multiply, columns)
    return pairs


def _arpack(multiply, first, count, shift, end, tolerance, restarts, seed) -> list[np.ndarray]:
    """Eigenvectors in descending order of the eigenvalues.

    ARPACK's tolerance is relative to each eigenvalue, so that small ones would never converge. The
    shift moves the wanted end to one to three times the largest absolute eigenvalue.
    """
    size, basis, before = multiply.size, _basis(count, multiply.size), multiply.products

    def shifted(vector):
        if multiply.products - before >= basis:
            multiply.expected = max(multiply.expected, multiply.products + basis - count)
        return multiply(vector) + shift * np.ravel(vector)

    matrix: Any = LinearOperator((size, size), matvec=shifted, dtype=np.float64)  # pyright: ignore
    random: dict[str, Any] = {"rng": np.random.default_rng(seed)} if _TAKES_RNG else {}
    try:
        values, vectors = eigsh(
            matrix,
            k=count,
            which="LA" if end == "largest" else "SA",
            v0=first,
            ncv=basis,
            tol=tolerance / 3,
            maxiter=restarts,
            **random,
        )
    except ArpackNoConvergence as error:
        found = ", ".join(f"{value - shift:.6g}" for value in sorted(error.eigenvalues)[::-1])
        raise _NotFound(
            f"{len(error.eigenvalues)} of the {count} {end} eigenvalues converged ({found or '-'}) "
            f"within {restarts} restarts: allow more restarts or a larger tolerance "
            f"({tolerance:g})"
        ) from error
    except ArpackError as error:
        raise _NotFound(
            f"the iteration for the {count} {end} eigenvalues broke down: try another seed or "
            f"another start; ARPACK says: {error}"
        ) from error
    return list(vectors.T[np.argsort(-values)])


def _pairs(multiply: HostOperator, columns: list[np.ndarray]) -> list[_Pair]:
    multiply.expected = max(multiply.expected, multiply.products + len(columns))
    pairs = []
    for vector in columns:
        product = multiply(vector)
        value = float(np.vdot(vector, product) / np.vdot(vector, vector))
        pairs.append(_Pair(value, vector, float(np.linalg.norm(product - value * vector))))
    return pairs
