"""Published methods as compositions of directions, geometries and a base optimizer."""

import optax

from vasso_jax.optim._directions import suppress_variance
from vasso_jax.optim._geometries import l2_ball
from vasso_jax.optim._hyperparameters import ScalarOrSchedule
from vasso_jax.optim._sharpness_aware import check_transform, sharpness_aware


def sam(
    base: optax.GradientTransformation, rho: ScalarOrSchedule = 0.05
) -> optax.GradientTransformationExtraArgs:
    """Sharpness-aware minimization.

        eps = rho g / (||g|| + 1e-7),  g = grad L(w)
        w  <- base step with grad L(w + eps), applied at w

    Args:
        base: the optimizer that takes the perturbed gradient, as `optax.sgd(0.1, momentum=0.9)`.
        rho: radius of the perturbation, >= 0, or a schedule.

    Returns:
        A transform whose `update` needs `params` and `grad_fn`; see `sharpness_aware`. Two gradient
        evaluations a step, no memory beside the base's.

    Raises:
        ValueError: rho is a number below 0.
        TypeError: base is not an optax transform.

    References:
        Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization,
        ICLR 2021, https://arxiv.org/abs/2010.01412

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from vasso_jax.optim import sam
        >>> grad = jax.grad(lambda w, i: 0.5 * jnp.sum(w**2))
        >>> tx = sam(optax.sgd(0.5), rho=0.1)
        >>> w = jnp.array([1.0, 0.0])
        >>> updates, _ = tx.update(grad(w, 0), tx.init(w), w, grad_fn=grad)
        >>> print(optax.apply_updates(w, updates))
        [0.45 0.  ]
    """
    check_transform("base", base)
    return optax.chain(sharpness_aware(l2_ball(rho)), base)


def vasso(
    base: optax.GradientTransformation,
    rho: ScalarOrSchedule = 0.05,
    theta: ScalarOrSchedule = 0.9,
) -> optax.GradientTransformationExtraArgs:
    """Variance-suppressed sharpness-aware optimization.

        d  <- (1 - theta) d + theta g,  g = grad L(w), starting at the first g
        eps = rho d / (||d|| + 1e-7)
        w  <- base step with grad L(w + eps), applied at w

    Args:
        base: the optimizer that takes the perturbed gradient, as `optax.sgd(0.1, momentum=0.9)`.
            Weight decay belongs in there: it acts on w and is not part of d.
        rho: radius of the perturbation, >= 0, or a schedule.
        theta: weight of the new gradient in d, in [0, 1], or a schedule. 1 is SAM; smaller values
            suppress more of the minibatch noise in the direction.

    Returns:
        A transform whose `update` needs `params` and `grad_fn`; see `sharpness_aware`. Two gradient
        evaluations a step, one copy of the parameters (d) beside the base's memory.

    Raises:
        ValueError: rho is a number below 0, or theta one outside [0, 1].
        TypeError: base is not an optax transform.

    References:
        Li and Giannakis, Enhancing Sharpness-Aware Optimization Through Variance Suppression,
        NeurIPS 2023, https://arxiv.org/abs/2309.15639

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from vasso_jax.optim import vasso
        >>> grad = jax.grad(lambda w, i: 0.5 * jnp.sum(w**2))
        >>> tx = vasso(optax.sgd(0.5), rho=0.1, theta=0.4)
        >>> w = jnp.array([1.0, 0.0])
        >>> updates, _ = tx.update(grad(w, 0), tx.init(w), w, grad_fn=grad)
        >>> print(optax.apply_updates(w, updates))
        [0.45 0.  ]
    """
    check_transform("base", base)
    perturbation = optax.chain(suppress_variance(theta), l2_ball(rho))
    return optax.chain(sharpness_aware(perturbation), base)
