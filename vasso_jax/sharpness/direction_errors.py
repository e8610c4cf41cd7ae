"""How far the directions of sharpness-aware methods are from the gradient of the whole loss.

Several streams of minibatch gradients are taken at the same parameters, so that the spread of a
direction over them is its variance, and what their mean misses the true gradient by is its bias.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from vasso_jax.sharpness import trees
from vasso_jax.sharpness.checks import check_count
from vasso_jax.sharpness.objective import Objective, Params
from vasso_jax.sharpness.precision import in_full_precision

Streams = Mapping[str, jax.Array]


class DirectionErrors(NamedTuple):
    """Of a direction d against the true gradient G, at each of T steps and for S streams.

    Attributes:
        squared_error: ||d - G||^2, [T, S].
        cosine: of d and G, [T, S].
        successive_cosine: of d and the direction one step before, [T, S]; NaN at the first step.
        variance: trace of the covariance of d over the streams, [T]; NaN for a single stream.
        bias: ||E d - G||^2, [T]. An unbiased estimate, so it can come out below zero; NaN for a
            single stream. Bias and variance add up to the mean of squared_error over the streams.
        squared_norm: ||G||^2, [T].
    """

    squared_error: jax.Array
    cosine: jax.Array
    successive_cosine: jax.Array
    variance: jax.Array
    bias: jax.Array
    squared_norm: jax.Array


@in_full_precision
def measure_directions(
    directions: Mapping[str, optax.GradientTransformation],
    gradients_at: Callable[[jax.Array], tuple[Streams, jax.Array]],
    steps: int,
) -> dict[str, dict[str, DirectionErrors]]:
    """Feeds streams of minibatch gradients to each direction, and compares what comes out.

    Args:
        directions: transforms g -> d by name; the gradient itself is `optax.identity()`. Each
            stream gets a state of its own.
        gradients_at: `(step) -> streams, full`; step is an int32 scalar, `streams` has named groups
            of minibatch gradients, float [S, P] each, and `full` is the true gradient, float [P];
            traced, once, in a scan.
        steps: T, how many steps to take, from 0 on; >= 1.

    Raises:
        ValueError: `steps` is not a positive integer.

    Returns:
        For each group of streams and each direction its errors.
    """
    check_count("steps", steps)
    streams, _ = jax.eval_shape(gradients_at, jnp.int32(0))

    def initial(direction: optax.GradientTransformation, shape: jax.ShapeDtypeStruct) -> Any:
        zero = jnp.zeros(shape.shape, shape.dtype)
        return jax.vmap(direction.init)(zero), zero

    def step(carry: Any, i: jax.Array) -> tuple[Any, Any]:
        streams, full = gradients_at(i)
        moved: dict[str, Any] = {}
        errors: dict[str, dict[str, DirectionErrors]] = {}
        for group, grads in streams.items():
            moved[group], errors[group] = {}, {}
            for name, direction in directions.items():
                state, before = carry[group][name]
                update: Any = jax.vmap(direction.update)
                now, state = update(grads, state)
                moved[group][name] = state, now
                errors[group][name] = _errors(now, before, full)
        return moved, errors

    first = {
        group: {name: initial(direction, shape) for name, direction in directions.items()}
        for group, shape in streams.items()
    }
    return jax.lax.scan(step, first, jnp.arange(steps, dtype=jnp.int32))[1]


def minibatch_gradients(
    objective: Objective, params: Params, streams: int, seed: int = 0
) -> Callable[[jax.Array], tuple[Streams, jax.Array]]:
    """Streams of minibatch gradients at parameters that stay, for `measure_directions`.

    In each step and stream a batch of the objective is drawn, independently, by the number of its
    examples: the mean of its gradient is that of the whole set.

    Args:
        objective: the loss, whose batches are the minibatches.
        params: pytree of arrays, float32 or float64.
        streams: S >= 2, or 1 for errors without variance and bias.
        seed: of the drawing.

    Returns:
        A function of the step, with one group of streams, `independent`.

    Raises:
        ValueError: a number is out of range, or the parameters or the loss are not finite.
    """
    check_count("streams", streams)
    check_count("seed", seed, least=0)
    objective.check_finite(params)
    full = _gradient(objective, params)
    examples = objective.weights.sum(axis=1)
    key = jax.random.key(seed)

    def gradient(i: jax.Array) -> jax.Array:
        return _gradient(objective.part(i), params)

    def gradients_at(step: jax.Array) -> tuple[Streams, jax.Array]:
        chosen = jax.random.choice(
            jax.random.fold_in(key, step), len(examples), (streams,), p=examples / examples.sum()
        )
        return {"independent": jax.lax.map(gradient, chosen)}, full

    return gradients_at


@jax.jit
def _gradient(objective: Objective, params: Params) -> jax.Array:
    """All leaves in one array [P]."""
    return ravel_pytree(trees.replicated(objective.value_and_grad(params)[1]))[0]


def _errors(now: jax.Array, before: jax.Array, full: jax.Array) -> DirectionErrors:
    """Of one step: [S, P] directions there and one step before, [P] true gradient."""
    mean = now.mean(axis=0)
    variance = jnp.square(now - mean).sum() / (len(now) - 1)
    return DirectionErrors(
        squared_error=jnp.square(now - full).sum(axis=1),
        cosine=_cosine(now, full),
        # Before the first step there is zero, whose cosine is 0 / 0.
        successive_cosine=_cosine(now, before),
        variance=variance,
        bias=jnp.square(mean - full).sum() - variance / len(now),
        squared_norm=jnp.square(full).sum(),
    )


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Over the last axis."""
    return (a * b).sum(-1) / (jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1))
