# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""How every published method is made of its parts, and what all of them share.

A recipe is `optax.chain(sharpness_aware(optax.chain(direction, geometry)), base)`. Its docstring
has the equation, the cost, and what is special to it. For all of them:

- `base` takes the result, as `optax.sgd(0.1)`; weight decay and clipping belong in there.
- `update` needs `params` and `grad_fn`; see `sharpness_aware`.
- ValueError: a number is out of range. TypeError: `base` is not an optax transform.
- Costs are gradient evaluations per step, and memory besides the base's that lasts from step to
  step, in copies of the parameters. With `refresh_every`, a method without a memory gets one: a
  copy that holds the last direction.
"""

from typing import Any

import optax

from vasso_jax.optim._arguments import check_transform
from vasso_jax.optim._directions import suppress_variance
from vasso_jax.optim._sharpness_aware import sharpness_aware

Transform = optax.GradientTransformation
SharpnessAware = optax.GradientTransformationExtraArgs


def make_recipe(
    base: Transform,
    *geometry: Transform,
    direction: Transform | None = None,
    remembers: bool = False,
    refresh_every: int | None = None,
    accumulator_dtype: Any = None,
    **options: Any,
) -> SharpnessAware:
    """The base after the gradient at w + eps.

    Args:
        base: see above.
        geometry: what turns the direction into eps, one after the other.
        direction: None: the gradient itself.
        remembers: whether the direction can be reused as it is.
        refresh_every: see `sharpness_aware`.
        accumulator_dtype: of the copy that a direction without a memory gets.
        options: further arguments of `sharpness_aware`.
    """
    parts = [] if direction is None else [direction]
    if refresh_every is not None and not remembers:
        parts.append(suppress_variance(1.0, accumulator_dtype=accumulator_dtype))
    perturbation = optax.chain(*parts, *geometry)
    gradient = sharpness_aware(perturbation, refresh_every=refresh_every, **options)
    return optax.chain(gradient, check_transform("base", base))
