"""Sharpness-aware optimizers as ordinary optax transforms. Needs jax and optax, nothing else.

direction     g -> d      suppress_variance(theta) | friendly(sigma, theta) | nothing (SAM)
geometry      d -> eps    l2_ball(rho) | adaptive_ball(rho, eta) | either with sparse_mask(density)
perturbation  = optax.chain(direction, geometry)
gradient      g -> grad L(w + eps)    sharpness_aware(perturbation, descent=surrogate_gap(alpha)),
              m_sharpness_aware(perturbation), look_sharpness_aware(perturbation)
vasso(base, rho, theta) = optax.chain(sharpness_aware(perturbation), base)
"""

from vasso_jax.optim._arguments import matrices
from vasso_jax.optim._descent import DescentRule, rho_tied_to_lr, surrogate_gap
from vasso_jax.optim._directions import (
    FriendlyState,
    RemembersDirection,
    RememberState,
    SuppressVarianceState,
    friendly,
    remember,
    suppress_variance,
)
from vasso_jax.optim._evaluation import Evaluation, GradFn, Passes
from vasso_jax.optim._geometries import BallState, adaptive_ball, l2_ball
from vasso_jax.optim._looksam import look_sharpness_aware
from vasso_jax.optim._m_sharpness import m_sharpness_aware
from vasso_jax.optim._recipes import asam, friendly_sam, sam, ssam
from vasso_jax.optim._recipes_descent import gsam, looksam, vasso_gsam
from vasso_jax.optim._recipes_vasso import vasso, vasso_asam
from vasso_jax.optim._sharpness_aware import sharpness_aware
from vasso_jax.optim._sparsity import SparseMaskState, sparse_mask
from vasso_jax.optim._transform import SharpnessAwareState
from vasso_jax.optim._value_and_update import value_and_update

__all__ = [
    "BallState",
    "DescentRule",
    "Evaluation",
    "FriendlyState",
    "GradFn",
    "Passes",
    "RememberState",
    "RemembersDirection",
    "SharpnessAwareState",
    "SparseMaskState",
    "SuppressVarianceState",
    "adaptive_ball",
    "asam",
    "friendly",
    "friendly_sam",
    "gsam",
    "l2_ball",
    "look_sharpness_aware",
    "looksam",
    "m_sharpness_aware",
    "matrices",
    "remember",
    "rho_tied_to_lr",
    "sam",
    "sharpness_aware",
    "sparse_mask",
    "ssam",
    "suppress_variance",
    "surrogate_gap",
    "value_and_update",
    "vasso",
    "vasso_asam",
    "vasso_gsam",
]
