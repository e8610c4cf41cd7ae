"""The loss at perturbed parameters, in the coordinates in which a ball is one; see `norms`."""

import math
from functools import partial

import jax

from vasso_jax.sharpness import norms
from vasso_jax.sharpness.norms import Norm
from vasso_jax.sharpness.objective import Objective, Params
from vasso_jax.sharpness.precision import in_full_precision


@in_full_precision
@partial(jax.jit, static_argnames="adaptive")
def evaluate(
    objective: Objective, params: Params, z: Params, adaptive: bool
) -> tuple[jax.Array, Params]:
    """The loss and its gradient in z: the one program with the network, for both norms."""
    loss, grads = objective.value_and_grad(norms.shifted(params, z, adaptive))
    return loss, norms.stretched(params, grads, adaptive)


def checked_slope(loss: jax.Array, grads: Params, norm: Norm) -> float:
    """By how much a linear loss with that gradient would grow in a ball of radius 1.

    Raises:
        ValueError: the loss or the gradient is not finite.
    """
    slope = float(norms.slope(grads, norm))
    if not math.isfinite(loss) or not math.isfinite(slope):
        raise ValueError(
            f"the loss at params and its gradient must be finite, got {loss}, and a gradient of "
            f"norm {slope}"
        )
    return slope


def loss_at(
    objective: Objective, params: Params, z: Params, radius: float, adaptive: bool
) -> float:
    """The loss at w + c z.

    Raises:
        ValueError: it is not finite.
    """
    loss = float(objective.value(norms.shifted(params, z, adaptive)))
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss of a perturbation is {loss}: choose a smaller radius than {radius}"
        )
    return loss
