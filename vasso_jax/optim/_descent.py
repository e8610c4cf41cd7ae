# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Descent rules: from the clean and the perturbed gradient to what the base optimizer gets.

SAM's rule is the perturbed gradient itself.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import ScalarOrSchedule, check_range
from vasso_jax.optim._numerics import add_scaled, difference, orthogonal_part

DescentRule = Callable[[optax.Updates, optax.Updates], optax.Updates]


def perturbed_gradient(clean: optax.Updates, perturbed: optax.Updates) -> optax.Updates:
    """SAM's rule: the gradient at w + eps."""
    del clean
    return perturbed


def surrogate_gap(alpha: float) -> DescentRule:
    """GSAM's rule: also descend on the gap between the perturbed and the clean loss.

        g_perp  = g - <g, g_p> / ||g_p||^2  g_p     the part of g orthogonal to g_p
        updates = g_p - alpha g_perp

    An ascent along g_perp raises the clean loss and leaves the perturbed loss unchanged to first
    order. So the gap between the two, the sharpness, shrinks.

    Args:
        alpha: weight of the gap, >= 0; 0 is SAM.

    Returns:
        A rule `(clean, perturbed) -> updates` for `sharpness_aware(descent=...)`.

    Raises:
        ValueError: alpha is a number below 0.

    References:
        Zhuang et al., Surrogate Gap Minimization Improves Sharpness-Aware Training, ICLR 2022,
        algorithm 1, https://arxiv.org/abs/2203.08065

    Example:
        >>> import jax.numpy as jnp
        >>> from vasso_jax.optim import surrogate_gap
        >>> print(surrogate_gap(alpha=0.5)(jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0])))
        [ 3. -1.]
    """
    check_range("alpha", alpha, 0.0, schedule=False)

    def rule(clean: optax.Updates, perturbed: optax.Updates) -> optax.Updates:
        gap = orthogonal_part(clean, perturbed)
        return add_scaled(perturbed, -jnp.asarray(alpha), gap)

    return rule


def weighted_sharpness(gamma: float) -> DescentRule:
    """WSAM's coupled rule: the sharpness as a term of the loss, with a weight of its own.

        updates = g + gamma / (1 - gamma) (g_p - g)

    It is the gradient of L(w) + gamma / (1 - gamma) (L(w + eps) - L(w)), to SAM's approximation.

    Args:
        gamma: in [0, 1). 0 is the base alone, 0.5 SAM; above, sharpness weighs more than in SAM.

    Returns:
        A rule `(clean, perturbed) -> updates` for `sharpness_aware(descent=...)`.

    Raises:
        ValueError: gamma is a number outside [0, 1).

    References:
        Yue et al., Sharpness-Aware Minimization Revisited: Weighted Sharpness as a Regularization
        Term, KDD 2023, https://arxiv.org/abs/2305.15817

    Example:
        >>> import jax.numpy as jnp
        >>> from vasso_jax.optim import weighted_sharpness
        >>> print(weighted_sharpness(gamma=0.75)(jnp.array([1.0, 2.0]), jnp.array([3.0, 0.0])))
        [ 7. -4.]
    """
    weight = sharpness_weight(gamma)

    def rule(clean: optax.Updates, perturbed: optax.Updates) -> optax.Updates:
        return add_scaled(clean, weight, difference(perturbed, clean))

    return rule


def sharpness_weight(gamma: float) -> jax.Array:
    """gamma / (1 - gamma)

    Raises:
        ValueError: gamma is a number outside [0, 1).
    """
    check_range("gamma", gamma, 0.0, 1.0, schedule=False, half_open=True)
    return jnp.asarray(gamma) / (1 - jnp.asarray(gamma))


def rho_tied_to_lr(
    learning_rate: ScalarOrSchedule,
    *,
    rho_max: float,
    lr_max: float,
    rho_min: float = 0.0,
    lr_min: float = 0.0,
) -> optax.Schedule:
    """GSAM's schedule of rho: linear in the learning rate.

        rho_t = rho_min + (rho_max - rho_min) (lr_t - lr_min) / (lr_max - lr_min)

    It is clipped at 0. A learning rate below lr_min, as in a warm-up from 0, could make it
    negative, and a negative radius would perturb downhill.

    Args:
        learning_rate: the schedule of the base optimizer, or a number.
        rho_max: rho at the largest learning rate, >= rho_min.
        rho_min: rho at the smallest learning rate, >= 0.
        lr_max: largest learning rate; if it is equal to lr_min, rho is rho_max.
        lr_min: smallest learning rate, >= 0 and at most lr_max.

    Returns:
        A schedule, step (int32 scalar) -> rho, for the argument `rho` of any method.

    Raises:
        ValueError: a number is out of range.

    References:
        Zhuang et al., ICLR 2022, algorithm 1, https://arxiv.org/abs/2203.08065

    Example:
        >>> import optax
        >>> from vasso_jax.optim import rho_tied_to_lr
        >>> lr = optax.linear_schedule(0.1, 0.0, 10)
        >>> rho = rho_tied_to_lr(lr, rho_max=0.5, lr_max=0.1)
        >>> print(rho(0), rho(5), rho(10))
        0.5 0.25 0.0
    """
    check_range("rho_min", rho_min, 0.0, schedule=False)
    check_range("rho_max", rho_max, rho_min, schedule=False)
    check_range("lr_min", lr_min, 0.0, schedule=False)
    check_range("lr_max", lr_max, lr_min, schedule=False)

    def tied_to_lr(count: Any) -> Any:
        if lr_max == lr_min:
            return jnp.asarray(rho_max)
        lr: Any = learning_rate(count) if callable(learning_rate) else learning_rate
        share = (lr - lr_min) / (lr_max - lr_min)
        return jnp.maximum(rho_min + (rho_max - rho_min) * share, 0.0)

    return tied_to_lr
