"""Sharpness-aware optimizers as ordinary optax transforms. Needs jax and optax, nothing else.

direction     g -> d      suppress_variance(theta)
geometry      d -> eps    l2_ball(rho)
perturbation  = optax.chain(direction, geometry)
sharpness_aware(perturbation)   g -> grad L(w + eps)
vasso(base, rho, theta) = optax.chain(sharpness_aware(perturbation), base)
"""

from vasso_jax.optim._directions import SuppressVarianceState, suppress_variance
from vasso_jax.optim._geometries import L2BallState, l2_ball
from vasso_jax.optim._recipes import sam, vasso
from vasso_jax.optim._sharpness_aware import GradFn, SharpnessAwareState, sharpness_aware

__all__ = [
    "GradFn",
    "L2BallState",
    "SharpnessAwareState",
    "SuppressVarianceState",
    "l2_ball",
    "sam",
    "sharpness_aware",
    "suppress_variance",
    "vasso",
]
