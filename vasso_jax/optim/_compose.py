# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""How all recipes are built of their parts."""

from collections.abc import Callable
from typing import Any

import optax

from vasso_jax.optim._arguments import Refresh, check_choice, check_transform
from vasso_jax.optim._directions import suppress_variance
from vasso_jax.optim._sharpness_aware import sharpness_aware
from vasso_jax.optim._single_pass import single_pass_sharpness_aware

Transform = optax.GradientTransformation
SharpnessAware = optax.GradientTransformationExtraArgs


def compose(
    base: Transform,
    perturbation: Transform,
    gradient: Callable[..., SharpnessAware] = sharpness_aware,
    *,
    refresh: Refresh | None = None,
    **options: Any,
) -> SharpnessAware:
    """The `base` optimizer on the gradients that `gradient(perturbation, **options)` makes."""
    check_choice("refresh", "clean" if refresh is None else refresh, "clean", "descent")
    if refresh == "descent":
        gradient, options = single_pass_sharpness_aware, _of_single_pass(**options)
    return optax.chain(gradient(perturbation, **options), check_transform("base", base))


def _of_single_pass(
    refresh_every: int | None, ascent_steps: int | None, **options: Any
) -> dict[str, Any]:
    if refresh_every is not None or ascent_steps is not None:
        name = "refresh_every" if refresh_every is not None else "ascent_steps"
        raise ValueError(
            f"{name} has no effect with refresh='descent', as there is one evaluation per step: "
            "leave it out"
        )
    return options


def memory(
    refresh_every: int | None,
    refresh: Refresh | None,
    accumulator_dtype: Any,
    *,
    keeps_already: bool = False,
) -> list[Transform]:
    """What keeps the direction of a method without memory while it is reused.

    Raises:
        ValueError: it would not be reused, and nothing else is kept in `accumulator_dtype`.
    """
    if refresh_every is not None or refresh == "descent":
        return [suppress_variance(1.0, accumulator_dtype=accumulator_dtype)]
    if accumulator_dtype is not None and not keeps_already:
        raise ValueError(
            "accumulator_dtype has no effect without refresh_every or refresh='descent', as "
            "nothing is kept: leave it out"
        )
    return []
