"""Auto-PGD: projected gradient ascent of a loss in a ball around the parameters.

Reference:
    Croce and Hein, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks, ICML 2020, algorithm 1, https://arxiv.org/abs/2003.01690
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax.sharpness import norms, trees
from vasso_jax.sharpness.norms import Norm
from vasso_jax.sharpness.objective import Objective, Params
from vasso_jax.sharpness.perturbed import checked_slope, evaluate

MOMENTUM = 0.75  # alpha of the paper
ENOUGH_RISES = 0.75  # its rho: the share of steps with a higher loss that keeps the step size


class Ascent(NamedTuple):
    """What an ascent has found.

    Attributes:
        losses: float [steps + 1], the largest loss that was found: at the parameters, and after
            each step.
        size: of the z of the last of them.
        random_start: whether it began at a random point.
    """

    losses: np.ndarray
    size: float
    random_start: bool


class _State(NamedTuple):
    """Of an ascent; the last three are of the time since the last checkpoint, or at it."""

    z: Params
    before: Params
    loss: jax.Array
    grads: Params
    best: Params
    best_loss: jax.Array
    best_grads: Params
    step_size: jax.Array
    rises: jax.Array
    best_loss_then: jax.Array
    kept_then: jax.Array


def ascend(
    objective: Objective,
    params: Params,
    radius: float,
    norm: Norm,
    *,
    adaptive: bool,
    steps: int,
    key: jax.Array,
    random_start: bool,
    report: Callable[[], None],
) -> Ascent:
    """Maximises the mean loss in the ball.

    Args:
        objective, params, radius, norm, adaptive, steps: see `ball.worst_case`.
        key: of a random point.
        random_start: whether the ascent starts there, else at the parameters. If their gradient is
            zero, the first step leads there.
        report: called after each evaluation of the loss: `steps` + 1, and one for a random start.

    Raises:
        ValueError: the loss is not finite.
    """
    center = jax.tree.map(jnp.zeros_like, params)
    loss, grads = evaluate(objective, params, center, adaptive)
    flat = checked_slope(loss, grads, norm) == 0 and not random_start
    report()
    length, none, yes = jnp.asarray(2 * radius, loss.dtype), jnp.int32(0), jnp.bool(True)
    state = _State(center, center, loss, grads, center, loss, grads, length, none, loss, yes)
    if random_start:
        z = _start(params, key, radius, norm)
        state = _reached(state, z, *evaluate(objective, params, z, adaptive))
        state = state._replace(rises=none, best_loss_then=state.best_loss)
        report()
    losses, marks, mark = [float(loss)], checkpoints(steps), 0
    for n in range(1, steps + 1):
        if flat and n == 1:
            z = _start(params, key, radius, norm)
        else:
            # The first step has none before it, whose direction it could keep.
            z = _next(state, radius, MOMENTUM if n > 1 else 1.0, norm)
        state = _reached(state, z, *evaluate(objective, params, z, adaptive))
        report()
        if not math.isfinite(float(state.loss)):
            raise ValueError(
                f"the loss is {state.loss} at a point of the ball: choose a smaller radius "
                f"than {radius}"
            )
        losses.append(float(state.best_loss))
        if n in marks:
            state, mark = _checkpoint(state, n - mark), n
    return Ascent(np.array(losses), float(norms.size(state.best, norm)), random_start or flat)


def checkpoints(steps: int) -> list[int]:
    """After which numbers of steps APGD looks back; section 3.1 of the paper."""
    hundredths = [0, 22]
    while hundredths[-1] < 100:
        hundredths.append(hundredths[-1] + max(hundredths[-1] - hundredths[-2] - 3, 6))
    return sorted({-(-share * steps // 100) for share in hundredths[1:-1]})


@partial(jax.jit, static_argnames="norm")
def _start(params: Params, key: jax.Array, radius: float, norm: Norm) -> Params:
    noise = norms.noise(key, params, norm)
    return trees.scaled(radius, trees.unit(noise) if norm == "l2" else noise)


@partial(jax.jit, static_argnames="norm")
def _next(state: _State, radius: float, momentum: float, norm: Norm) -> Params:
    ascended = trees.moved(state.z, state.step_size, norms.steepest(state.grads, norm))
    z = jax.tree.map(
        lambda z, before, now: z + momentum * (now - z) + (1 - momentum) * (z - before),
        state.z,
        state.before,
        norms.project(ascended, radius, norm),
    )
    return norms.project(z, radius, norm)


@jax.jit
def _reached(state: _State, z: Params, loss: jax.Array, grads: Params) -> _State:
    better = loss > state.best_loss
    best, best_loss, best_grads = _where(
        better, (z, loss, grads), (state.best, state.best_loss, state.best_grads)
    )
    return state._replace(
        z=z,
        before=state.z,
        loss=loss,
        grads=grads,
        best=best,
        best_loss=best_loss,
        best_grads=best_grads,
        rises=state.rises + (loss > state.loss),
    )


@jax.jit
def _checkpoint(state: _State, steps: int) -> _State:
    """Halves the step size and goes back to the best point, if the last `steps` did not help."""
    no_better = state.kept_then & (state.best_loss == state.best_loss_then)
    halved = (state.rises < ENOUGH_RISES * steps) | no_better
    z, loss, grads = _where(
        halved, (state.best, state.best_loss, state.best_grads), (state.z, state.loss, state.grads)
    )
    return state._replace(
        z=z,
        loss=loss,
        grads=grads,
        step_size=jnp.where(halved, state.step_size / 2, state.step_size),
        rises=jnp.zeros_like(state.rises),
        best_loss_then=state.best_loss,
        kept_then=~halved,
    )


def _where(condition: jax.Array, these: Any, others: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), these, others)
