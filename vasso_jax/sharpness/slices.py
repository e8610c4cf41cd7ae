"""The loss on lines and planes in the space of the parameters: around a point, and between points.

The parameters alone are moved. What else the `outputs` of the objective need is theirs: running
statistics of BatchNorm belong to one point and are wrong at the others, so let `outputs` normalise
by the statistics of the batch. (A tree with parameters and statistics as `params` interpolates
both.)

References:
    Li et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018,
    https://arxiv.org/abs/1712.09913 (filter normalisation)
    Goodfellow et al., Qualitatively characterizing neural network optimization problems, ICLR 2015,
    https://arxiv.org/abs/1412.6544 (interpolation)
    Garipov et al., Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs, NeurIPS 2018,
    https://arxiv.org/abs/1802.10026, appendix A.1 (planes)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vasso_jax.sharpness import trees
from vasso_jax.sharpness.checks import (
    Positions,
    check_count,
    check_like,
    check_positive,
    positions,
    several,
)
from vasso_jax.sharpness.objective import (
    Objective,
    Params,
    check_parameters,
    check_precision,
)
from vasso_jax.sharpness.precision import in_full_precision
from vasso_jax.sharpness.progress import Progress, counter


class Line(NamedTuple):
    """The loss along a line.

    Attributes:
        x: float [X], positions, in units of the direction.
        losses: float [X]; not finite where the loss is not.
    """

    x: np.ndarray
    losses: np.ndarray


class Plane(NamedTuple):
    """The loss on a plane.

    Attributes:
        x: float [X], positions along the first axis, in units of its direction.
        y: float [Y], along the second axis.
        losses: float [Y, X]; not finite where the loss is not.
        points: float [K, 2], where the parameters lie that define the plane.
    """

    x: np.ndarray
    y: np.ndarray
    losses: np.ndarray
    points: np.ndarray


def filter_normalized(params: Params, seed: int) -> Params:
    """A random direction each of whose filters has the norm of that of the parameters.

    A filter is what makes one output: all numbers with the same last index, for kernels
    [..., inputs, outputs] as Flax has them. If a `bias` of several axes lies beside the kernel,
    these are the axes of the outputs, as in the kernels [inputs, heads, features] of attention;
    without one, kernels of this kind have a filter for each feature, over all heads. Biases and
    arrays of fewer than two axes get zero, such as the parameters of BatchNorm and LayerNorm.

    Args:
        params: pytree of arrays, float32 or float64.
        seed: of the direction.

    Raises:
        ValueError: no array has two axes, or one is neither float32 nor float64, or not finite; or
            the seed is no integer of at least 0.
    """
    check_count("seed", seed, least=0)
    if not any(_is_kernel(path, x) for path, x in jax.tree_util.tree_leaves_with_path(params)):
        raise ValueError("params must have an array of at least two axes, a kernel")
    check_precision(params)
    check_parameters(params)
    return _filter_normalized(params, jax.random.key(seed))


def line(
    objective: Objective,
    params: Params,
    direction: Params,
    x: Positions,
    progress: Progress | None = None,
) -> Line:
    """The loss at params + x direction.

    Args:
        objective: the loss.
        params: pytree of arrays, float32 or float64.
        direction: tree like params, such as `filter_normalized` makes; taken as it is.
        x: [X], positions.
        progress: called as `progress(done, expected)` after each evaluation of the loss.

    Raises:
        ValueError: the direction is unlike the parameters, or one of all these, or the loss at the
            parameters, is not finite.
    """
    x = positions("x", x)
    check_like(direction, params, "direction")
    objective.check_finite(params)
    report = counter(progress, len(x))
    return Line(x, losses_on(objective, params, (direction,), x[:, None], report))


def interpolation(
    objective: Objective,
    start: Params,
    end: Params,
    x: Positions,
    progress: Progress | None = None,
) -> Line:
    """The loss at (1 - x) start + x end, on the straight line between two points.

    Args, Raises: see `line`; the loss must be finite at both points.
    """
    x = positions("x", x)
    check_like(end, start, "end")
    for params in (start, end):
        objective.check_finite(params)
    report = counter(progress, len(x))
    # Not start + x (end - start), which would miss the end by its rounding.
    return Line(x, losses_on(objective, None, (start, end), np.stack([1 - x, x], 1), report))


def surface(
    objective: Objective,
    params: Params,
    directions: tuple[Params, Params],
    x: Positions,
    y: Positions,
    progress: Progress | None = None,
) -> Plane:
    """The loss at params + x directions[0] + y directions[1].

    Args, Raises: see `line`; there must be two directions.
    """
    directions = several("directions", directions, 2)
    x, y = positions("x", x), positions("y", y)
    for direction in directions:
        check_like(direction, params, "directions")
    objective.check_finite(params)
    return _on_grid(objective, params, directions, x, y, np.zeros((1, 2)), progress)


def plane(
    objective: Objective,
    points: tuple[Params, Params, Params],
    size: int = 21,
    margin: float = 0.2,
    progress: Progress | None = None,
) -> Plane:
    """The loss on the plane through three points.

    The first point is the origin, the second lies on the first axis, and the axes are orthogonal
    and of norm 1: distances in the picture are L2 distances of parameters.

    Args:
        objective: the loss.
        points: three trees alike.
        size: positions along each axis, >= 2.
        margin: how far the picture reaches beyond the points, as a share of their extent.
        progress: called as `progress(done, expected)` after each evaluation of the loss.

    Raises:
        ValueError: there are not three points, they lie on one line, are unlike one another, or
            they or the losses there are not finite; or a number is out of range.
    """
    points = jax.tree.map(jnp.asarray, several("points", points, 3))
    check_count("size", size, least=2)
    check_positive("margin", margin, or_zero=True)
    for i, params in enumerate(points):
        check_like(params, points[0], f"points[{i}]")
        objective.check_finite(params)
    axes, corners = _axes(points)
    low, high = corners.min(axis=0), corners.max(axis=0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    x, y = np.linspace(low, high, size).T
    return _on_grid(objective, points[0], axes, x, y, corners, progress)


def losses_on(
    objective: Objective,
    origin: Params | None,
    axes: tuple[Params, ...],
    points: np.ndarray,
    report: Callable[[], None],
) -> np.ndarray:
    """The losses at origin + sum_k points[i, k] axes[k], float [P] for points [P, K].

    Args:
        origin: None is zero.
        report: called after each evaluation of the loss.
    """
    losses = []
    for point in points:
        losses.append(float(_loss_at(objective, origin, axes, tuple(map(float, point)))))
        report()
    return np.array(losses)


@in_full_precision
@jax.jit
def _loss_at(
    objective: Objective,
    origin: Params | None,
    axes: tuple[Params, ...],
    point: tuple[float, ...],
) -> jax.Array:
    params = jax.tree.map(jnp.zeros_like, axes[0]) if origin is None else origin
    for axis, x in zip(axes, point, strict=True):
        params = trees.moved(params, x, axis)
    return objective.value(params)


def _on_grid(
    objective: Objective,
    origin: Params,
    axes: tuple[Params, Params],
    x: np.ndarray,
    y: np.ndarray,
    points: np.ndarray,
    progress: Progress | None,
) -> Plane:
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    report = counter(progress, len(x) * len(y))
    losses = losses_on(objective, origin, axes, grid.reshape(-1, 2), report)
    return Plane(x, y, losses.reshape(len(y), len(x)), points)


def _axes(points: tuple[Params, Params, Params]) -> tuple[tuple[Params, Params], np.ndarray]:
    """Orthogonal axes of norm 1, and where the points lie, [3, 2]."""
    to_second, to_third = (trees.moved(point, -1, points[0]) for point in points[1:])
    first = trees.unit(to_second)
    along = trees.dot(to_third, first)
    rest = trees.moved(to_third, -along, first)
    width, height = float(trees.norm(to_second)), float(trees.norm(rest))
    # What rounding leaves of points on one line is far below that.
    if width == 0 or height < 1e-4 * float(trees.norm(to_third)) or height == 0:
        raise ValueError("points must be three that do not lie on one line")
    return (first, trees.unit(rest)), np.array([[0, 0], [width, 0], [float(along), height]])


@jax.jit
def _filter_normalized(params: Params, key: jax.Array) -> Params:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    biases = {path[:-1]: x.shape for path, x in leaves if _is_bias(path)}

    def normalized(path: Any, w: jax.Array, d: jax.Array) -> jax.Array:
        if not _is_kernel(path, w):
            return jnp.zeros_like(w)
        bias = biases.get(path[:-1], ())
        outputs = len(bias) if 0 < len(bias) < w.ndim and w.shape[-len(bias) :] == bias else 1
        inputs = tuple(range(w.ndim - outputs))
        squares = [jnp.square(x).sum(axis=inputs) for x in (w, d)]
        return d * jnp.sqrt(squares[0] / squares[1])

    drawn = optax.tree.random_like(key, params)
    return jax.tree_util.tree_map_with_path(normalized, params, drawn)


def _is_kernel(path: Any, leaf: Any) -> bool:
    """Whether it has filters; the bias of an attention head has two axes as well."""
    return np.ndim(leaf) > 1 and not _is_bias(path)


def _is_bias(path: Any) -> bool:
    return "bias" in jax.tree_util.keystr(path[-1:])
