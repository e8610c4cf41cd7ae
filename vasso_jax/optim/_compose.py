# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""How all recipes are built of their parts."""

from collections.abc import Callable
from typing import Any

import optax

from vasso_jax.optim._arguments import check_transform
from vasso_jax.optim._directions import suppress_variance
from vasso_jax.optim._sharpness_aware import sharpness_aware

Transform = optax.GradientTransformation
SharpnessAware = optax.GradientTransformationExtraArgs


def compose(
    base: Transform,
    perturbation: Transform,
    gradient: Callable[..., SharpnessAware] = sharpness_aware,
    **options: Any,
) -> SharpnessAware:
    """The `base` optimizer on the gradients that `gradient(perturbation, **options)` makes."""
    return optax.chain(gradient(perturbation, **options), check_transform("base", base))


def memory(refresh_every: int | None, accumulator_dtype: Any) -> list[Transform]:
    """What keeps the direction of a method without memory while it is reused."""
    if refresh_every is None:
        if accumulator_dtype is not None:
            raise ValueError(
                "accumulator_dtype has no effect without refresh_every, as nothing is kept: leave "
                "it out"
            )
        return []
    return [suppress_variance(1.0, accumulator_dtype=accumulator_dtype)]
