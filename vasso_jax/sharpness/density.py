"""How the eigenvalues of a curvature matrix are distributed, by stochastic Lanczos quadrature."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from matfree import decomp
from scipy.special import ndtr

from vasso_jax.sharpness import trees
from vasso_jax.sharpness.checks import Positions, check_count, check_positive, positions
from vasso_jax.sharpness.host_vectors import NOT_FINITE, flatten, placed
from vasso_jax.sharpness.operators import Operator, Vector, check_operator
from vasso_jax.sharpness.precision import in_full_precision
from vasso_jax.sharpness.progress import Progress


class Density(NamedTuple):
    """A spectral density as point masses: the share of eigenvalues near each node is its weight.

    Attributes:
        nodes: float [N], in ascending order.
        weights: float [N], at least 0; their sum is 1.
        products: how many passes over the data it took.
    """

    nodes: np.ndarray
    weights: np.ndarray
    products: int

    def smoothed(self, grid: Positions, width: float) -> np.ndarray:
        """The density, each node broadened to a Gaussian.

        Args:
            grid: eigenvalues, float [G].
            width: standard deviation of the Gaussians, > 0, in the unit of the eigenvalues. The
                density integrates to 1 over them.

        Returns:
            float [G].

        Raises:
            ValueError: the grid is no list of finite numbers, or the width not positive.
        """
        check_positive("width", width)
        distance = (positions("grid", grid)[:, None] - self.nodes) / width
        kernel = np.exp(-(distance**2) / 2) / (width * np.sqrt(2 * np.pi))
        return kernel @ self.weights

    def cumulative(self, grid: Positions, width: float = 0.0) -> np.ndarray:
        """The share of the eigenvalues up to each point of a grid.

        Args:
            grid: eigenvalues, float [G].
            width: as in `smoothed`; 0 for steps at the nodes.

        Returns:
            float [G].

        Raises:
            ValueError: the grid is no list of finite numbers, or the width negative.
        """
        check_positive("width", width, or_zero=True)
        distance = positions("grid", grid)[:, None] - self.nodes
        below = ndtr(distance / width) if width else distance >= 0
        return below @ self.weights


def spectral_density(
    operator: Operator,
    probes: int = 10,
    steps: int = 90,
    seed: int = 0,
    progress: Progress | None = None,
) -> Density:
    """The density of the eigenvalues of H, from Lanczos iterations at random vectors.

    Each probe, a random vector of norm 1, gives a tridiagonal matrix T of `steps` rows. The
    eigenvalues of T are nodes, and the squares of the first entries of its eigenvectors their
    weights: a quadrature rule that is exact for polynomials up to degree 2 steps - 1. The mean over
    the probes estimates the density (arXiv 1901.10159, section 2 and algorithms 1 and 2, where
    there are 10 probes of 90 steps).

    A probe runs as one program, with full reorthogonalisation against all of its vectors: it takes
    about 2 `steps` times the memory of the parameters, on each device where they are replicated.

    Args:
        operator: the matrix H.
        probes: random vectors; the deviation of the estimate falls with their square root.
        steps: products per probe, at most the number of rows of H.
        seed: of the random vectors.
        progress: is called after each probe with the products made and those to make in all.

    Raises:
        ValueError: an argument is of another type or out of range, or a product is not finite.
    """
    check_operator(operator)
    check_count("probes", probes)
    check_count("steps", steps)
    check_count("seed", seed, least=0)
    if steps > operator.size:
        raise ValueError(
            f"steps must be 1 to {operator.size}, the number of parameters, got {steps}"
        )
    like, rng = operator.like, np.random.default_rng(seed)
    nodes, weights = [], []
    for probe in range(probes):
        start = placed(rng.normal(size=operator.size), like)
        found, vectors = np.linalg.eigh(_symmetric(_arnoldi(operator, start, steps)))
        nodes.append(found)
        weights.append(vectors[0] ** 2 / probes)
        if progress:
            progress((probe + 1) * steps, probes * steps)
    order = np.argsort(np.concatenate(nodes))
    return Density(
        np.concatenate(nodes)[order], np.concatenate(weights)[order], products=probes * steps
    )


@in_full_precision
@partial(jax.jit, static_argnames="steps")
def _arnoldi(operator: Operator, start: Vector, steps: int) -> Any:
    """Products of H with an orthonormal basis in that basis, [steps, steps]."""

    def multiply(vector: Vector) -> Vector:
        vector = jax.tree.map(
            lambda x, like: trees.resharded(x, jax.typeof(like).sharding), vector, operator.chosen
        )
        return trees.replicated(operator.product(vector))

    decompose = decomp.hessenberg(steps, reortho="full", custom_vjp=False)
    return decompose(multiply, trees.replicated(start)).J_small


def _symmetric(hessenberg: jax.Array) -> np.ndarray:
    """The tridiagonal matrix of a Lanczos iteration, without what follows an invariant subspace.

    Where the vectors so far span such a subspace, the next one is made of rounding, or 0 / 0. Its
    length before it was normalised, which stands below the diagonal, shows both. By as much as that
    length at most are the eigenvalues changed that are left.
    """
    size = len(hessenberg)
    matrix = flatten(hessenberg).reshape(size, size)
    rounding = 100 * float(np.finfo(hessenberg.dtype).eps)
    for i, length in enumerate(np.diag(matrix, -1), 1):
        if not length > rounding * np.abs(matrix[:i, :i]).max():
            size = i
            break
    matrix = matrix[:size, :size]
    if not np.isfinite(matrix).all():
        raise ValueError(NOT_FINITE)
    return (matrix + matrix.T) / 2
