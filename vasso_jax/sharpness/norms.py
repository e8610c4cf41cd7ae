"""The two norms of a ball around the parameters, and the coordinates in which it is one.

A point is z with w + c z for the parameters w, where c is 1, or |w| where the ball is adaptive:
||z|| <= radius.
"""

from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax

from vasso_jax.sharpness import trees
from vasso_jax.sharpness.checks import check_positive
from vasso_jax.sharpness.objective import Params

Norm = Literal["l2", "linf"]


def check_ball(radius: float, norm: str) -> None:
    """Raises ValueError unless there is such a ball."""
    check_positive("radius", radius)
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {', '.join(get_args(Norm))}, got {norm!r}")


def stretched(params: Params, z: Params, adaptive: bool) -> Params:
    """c z, the perturbation that z stands for. It also makes the gradient in z of that in w."""
    return jax.tree.map(lambda w, x: jnp.abs(w) * x, params, z) if adaptive else z


@partial(jax.jit, static_argnames="adaptive")
def shifted(params: Params, z: Params, adaptive: bool) -> Params:
    """w + c z"""
    return trees.moved(params, 1, stretched(params, z, adaptive))


@partial(jax.jit, static_argnames="norm")
def size(z: Params, norm: Norm) -> jax.Array:
    """||z||"""
    if norm == "l2":
        return trees.norm(z)
    return jnp.stack([jnp.abs(x).max(initial=0) for x in jax.tree.leaves(z)]).max()


@partial(jax.jit, static_argnames="norm")
def slope(grads: Params, norm: Norm) -> jax.Array:
    """The largest increase of a linear loss in a ball of radius 1: the dual norm."""
    return trees.dot(grads, steepest(grads, norm))


def steepest(grads: Params, norm: Norm) -> Params:
    """The z of norm 1 along which a linear loss increases most; zero for a zero gradient."""
    return trees.unit(grads) if norm == "l2" else jax.tree.map(jnp.sign, grads)


def project(z: Params, radius: Any, norm: Norm) -> Params:
    """The nearest point in the ball."""
    if norm == "l2":
        length = trees.norm(z)
        return trees.scaled(jnp.where(length > radius, radius / length, 1), z)
    return jax.tree.map(lambda x: jnp.clip(x, -radius, radius).astype(x.dtype), z)


def noise(key: jax.Array, params: Params, norm: Norm) -> Params:
    """N(0, 1) for each parameter (L2), or U(-1, 1)."""
    uniform = partial(jax.random.uniform, minval=-1, maxval=1)
    sampler = jax.random.normal if norm == "l2" else uniform
    return optax.tree.random_like(key, params, sampler)
