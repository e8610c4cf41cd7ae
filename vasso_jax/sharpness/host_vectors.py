"""An operator over vectors that lie in host memory, so that many of them leave the device free."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vasso_jax.sharpness.operators import Operator, Vector
from vasso_jax.sharpness.progress import Progress

NOT_FINITE = (
    "a product of the curvature with a vector is not finite, though the loss is: does the loss "
    "have a second derivative at these parameters?"
)


def flatten(vector: Vector) -> np.ndarray:
    """All leaves as one float64 array [size], gathered from all devices and processes."""
    return np.concatenate([_on_host(x).ravel() for x in jax.tree.leaves(vector)], dtype=np.float64)


def _on_host(x: Any) -> np.ndarray:
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        x = multihost_utils.process_allgather(x, tiled=True)
    return np.asarray(x)


def unflatten(flat: np.ndarray, like: Vector) -> Vector:
    """The inverse: a tree of arrays in host memory, with the shapes and dtypes of `like`."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = [
        part.reshape(leaf.shape).astype(leaf.dtype)
        for part, leaf in zip(np.split(flat, ends[:-1]), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, parts)


def placed(flat: np.ndarray, like: Vector) -> Vector:
    """As `unflatten`, on the devices where `like` says that the parameters lie."""
    return jax.tree.map(
        lambda part, leaf: jax.device_put(part, leaf.sharding), unflatten(flat, like), like
    )


class HostOperator:
    """Multiplies flat vectors, counts the products and reports them.

    The vectors are float64, so that the iterations on the host add no rounding of their own; the
    products have the dtypes of the parameters.

    Attributes:
        like: see `Operator`.
        size: of the vectors.
        products: how many were made.
        expected: how many there will be, as far as is known.
    """

    def __init__(self, operator: Operator, expected: int, progress: Progress | None):
        self.like = operator.like
        self.size = operator.size
        self.products = 0
        self.expected = expected
        self._operator = operator
        self._progress = progress

    def __call__(self, flat: Any) -> np.ndarray:
        """The product with one vector [size].

        Raises:
            ValueError: it is not finite.
        """
        product = flatten(self._operator.product(placed(np.ravel(flat), self.like)))
        if not np.isfinite(product).all():
            raise ValueError(NOT_FINITE)
        self.products += 1
        self.expected = max(self.expected, self.products)
        if self._progress:
            self._progress(self.products, self.expected)
        return product
