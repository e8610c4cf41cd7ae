# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""WSAM with decoupled sharpness."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import ScalarOrSchedule, check_range, check_transform, value_at
from vasso_jax.optim._descent import sharpness_weight
from vasso_jax.optim._numerics import add_scaled, all_finite, difference, select
from vasso_jax.optim._sharpness_aware import sharpness_aware
from vasso_jax.optim._step import SharpnessAwareState
from vasso_jax.optim._typed import tree_map


class DecoupledState(NamedTuple):
    """State of `wsam` with a learning rate.

    Attributes:
        gradient: a `SharpnessAwareState`.
        base: state of the base.
    """

    gradient: SharpnessAwareState
    base: optax.OptState


def decoupled_sharpness(
    base: optax.GradientTransformation,
    perturbation: optax.GradientTransformation,
    gamma: float,
    learning_rate: ScalarOrSchedule,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """The base on the clean gradient, and a step down the sharpness besides; see `wsam`."""
    weight = sharpness_weight(gamma)
    check_range("learning_rate", learning_rate, 0.0)
    base = optax.with_extra_args_support(check_transform("base", base))

    def both(clean: optax.Updates, perturbed: optax.Updates) -> Any:
        return clean, difference(perturbed, clean)

    gradient = sharpness_aware(perturbation, descent=both, **options)

    def init(params: optax.Params) -> DecoupledState:
        inner: Any = gradient.init(params)
        return DecoupledState(inner, base.init(params))

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, DecoupledState]:
        both_parts: Any = gradient.update(updates, state.gradient, params, **extra_args)
        (clean, sharpness), new_gradient = both_parts
        new_updates, new_base = base.update(clean, state.base, params, **extra_args)
        step = -value_at(learning_rate, state.gradient.count) * weight
        nothing = tree_map(lambda x: jnp.zeros_like(x), sharpness)
        sharpness = select(all_finite(sharpness), sharpness, nothing)
        if isinstance(new_updates, optax.LookaheadParams):
            moved = new_updates._replace(fast=add_scaled(new_updates.fast, step, sharpness))
        else:
            moved = add_scaled(new_updates, step, sharpness)
        return moved, DecoupledState(new_gradient, new_base)

    return optax.GradientTransformationExtraArgs(init, update)
