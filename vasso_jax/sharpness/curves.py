"""The loss along the directions of sharpness-aware methods, and along random ones.

All directions are normalised, so that the distance is the L2 norm of the perturbation: a curve at
distance rho has the loss at which SAM or VaSSO takes its gradient.
"""

import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vasso_jax.sharpness import trees
from vasso_jax.sharpness.checks import Positions, check_count, check_like, positions
from vasso_jax.sharpness.objective import Objective, Params
from vasso_jax.sharpness.progress import Progress, counter
from vasso_jax.sharpness.slices import losses_on


class Curve(NamedTuple):
    """Loss increases along K directions.

    Attributes:
        distances: float [D], L2 distances from the parameters.
        increases: float [K, D], L(w + distance d / ||d||) - L(w).
        loss: L(w).
    """

    distances: np.ndarray
    increases: np.ndarray
    loss: float

    @property
    def mean(self) -> np.ndarray:
        """Over the directions, float [D]."""
        return self.increases.mean(axis=0)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation over the directions, float [D]; NaN for a single one."""
        several = len(self.increases) > 1
        return np.std(self.increases, axis=0, ddof=1) if several else self.mean * np.nan


def sam_direction(objective: Objective, params: Params, batch: int | None = None) -> Params:
    """SAM's direction: the gradient of the whole set, or of one batch of the objective.

    Args:
        objective: the loss.
        params: pytree of arrays, float32 or float64.
        batch: its number, from 0 on; None: the whole set.

    Raises:
        ValueError: there is no such batch, or the parameters or the loss are not finite.
    """
    number = len(objective.weights)
    is_number = isinstance(batch, numbers.Integral) and not isinstance(batch, bool)
    if batch is not None and not (is_number and 0 <= batch < number):
        raise ValueError(f"batch must be one of 0 to {number - 1}, got {batch!r}")
    objective.check_finite(params)
    if batch is None:
        return objective.value_and_grad(params)[1]
    return objective.part(batch).value_and_grad(params)[1]


def averaged_direction(
    objective: Objective,
    params: Params,
    direction: optax.GradientTransformation,
    batches: int,
) -> Params:
    """What a transform makes of minibatch gradients at the parameters, such as VaSSO's average.

    Args:
        objective: whose batches are taken in their order, and again from the first.
        params: stay the same: the average has no memory of earlier parameters, as it has in
            training. (VaSSO's direction in training is `direction` of the optimizer's state.)
        direction: transform g -> d, such as that of `vasso_jax.optim.suppress_variance`.
        batches: how many gradients it is fed, >= 1.

    Returns:
        The last d, with the structure of the parameters.

    Raises:
        ValueError: `batches` is not a positive integer, or the parameters or the loss are not
            finite.
    """
    check_count("batches", batches)
    objective.check_finite(params)
    state, d, update = direction.init(params), params, jax.jit(direction.update)
    for i in range(batches):
        part = objective.part(i % len(objective.weights))
        d, state = update(part.value_and_grad(params)[1], state, params)
    return d


def along(
    objective: Objective,
    params: Params,
    direction: Params,
    distances: Positions,
    progress: Progress | None = None,
) -> Curve:
    """The loss increases along one direction, which is normalised to norm 1.

    Args:
        objective: the loss.
        params: pytree of arrays, float32 or float64.
        direction: tree like params, of any real dtypes.
        distances: [D], from the parameters; negative ones go the other way.
        progress: called as `progress(done, expected)` after each evaluation of the loss.

    Returns:
        A curve with K = 1.

    Raises:
        ValueError: the direction is zero or unlike the parameters; or one of all these, or the loss
            at the parameters, is not finite.
    """
    distances = positions("distances", distances)
    check_like(direction, params, "direction")
    # Before it is normalised, which would leave nothing of integers.
    direction = jax.tree.map(lambda d, w: jnp.asarray(d, jnp.result_type(w)), direction, params)
    if not float(trees.norm(direction)) > 0:
        raise ValueError("direction must not be zero")
    loss = float(objective.check_finite(params))
    report = counter(progress, len(distances))
    losses = losses_on(objective, params, (trees.unit(direction),), distances[:, None], report)
    return Curve(distances, losses[None] - loss, loss)


def along_random(
    objective: Objective,
    params: Params,
    distances: Positions,
    directions: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Curve:
    """The loss increases along random directions, distributed evenly on the sphere.

    Args:
        objective, params, distances, progress: see `along`.
        directions: K, how many, >= 1.
        seed: of the directions.

    Raises:
        ValueError: an argument is out of range, or the parameters or the loss are not finite.
    """
    distances = positions("distances", distances)
    check_count("directions", directions)
    check_count("seed", seed, least=0)
    loss = float(objective.check_finite(params))
    report, losses = counter(progress, directions * len(distances)), []
    for i in range(directions):
        drawn = _random(params, jax.random.fold_in(jax.random.key(seed), i))
        losses.append(losses_on(objective, params, (drawn,), distances[:, None], report))
    return Curve(distances, np.array(losses) - loss, loss)


@jax.jit
def _random(params: Params, key: jax.Array) -> Params:
    return trees.unit(optax.tree.random_like(key, params))
