"""Sharpness-aware optimizers as ordinary optax transforms. Needs jax and optax, nothing else.

**Parts.** A method is a product of small transforms:

    direction     g -> d      suppress_variance(theta) | friendly(sigma, theta) | nothing (SAM)
                              | remember(any optax transform)
    geometry      d -> eps    l2_ball(rho) | adaptive_ball(rho, eta), with sparse_mask(density)
    perturbation  = optax.chain(direction, geometry)
    gradient      g -> grad L(w + eps)    sharpness_aware(perturbation, descent=surrogate_gap(a))
                              | m_sharpness_aware(perturbation) | look_sharpness_aware(perturbation)
    vasso(base, rho, theta)   = optax.chain(sharpness_aware(perturbation), base)

**Recipes.** `vasso`, `vasso_asam`, `vasso_gsam`, `sam`, `asam`, `friendly_sam`, `ssam`, `gsam` and
`looksam` are published methods. Each is a function of a base optimizer and the arguments below,
where it has them; its docstring describes the others.

A recipe returns a transform whose `update` needs `params` and `grad_fn`: see `sharpness_aware` for
the convention, `value_and_update` for a whole step in one call. It raises ValueError for a number
that is out of range, and TypeError for a base that is not an optax transform.

Costs in the docstrings are gradient evaluations per step, and memory besides the base's that lasts
from step to step, in copies of the parameters. With `refresh_every`, a method without a memory gets
one: a copy that holds the last direction.

Args:
    base: the optax optimizer that takes the step, such as `optax.sgd(0.1)`. Weight decay and
        clipping belong in it.
    rho: radius of the perturbation, >= 0, or a schedule of the step.
    mask: which parameters are perturbed, None (all) or a mask such as `matrices`; see `l2_ball`.
    refresh_every: k >= 1, the direction is renewed every k-th step; see `sharpness_aware`.
    microbatches: m >= 1, the parts in which the batch is evaluated; see `sharpness_aware`.
    accumulator_dtype: dtype of the copies of the parameters that it keeps, such as float32 or
        bfloat16; see `suppress_variance`. Refused by methods that keep none.
"""

from vasso_jax.optim._arguments import matrices
from vasso_jax.optim._descent import DescentRule, rho_tied_to_lr, surrogate_gap
from vasso_jax.optim._directions import (
    FriendlyState,
    SuppressVarianceState,
    friendly,
    suppress_variance,
)
from vasso_jax.optim._evaluation import Evaluation, GradFn, Passes
from vasso_jax.optim._geometries import BallState, adaptive_ball, l2_ball
from vasso_jax.optim._looksam import look_sharpness_aware
from vasso_jax.optim._m_sharpness import m_sharpness_aware
from vasso_jax.optim._memory import RemembersDirection, RememberState, remember
from vasso_jax.optim._recipes_sam import asam, friendly_sam, gsam, looksam, sam, ssam
from vasso_jax.optim._recipes_vasso import vasso, vasso_asam, vasso_gsam
from vasso_jax.optim._sharpness_aware import sharpness_aware
from vasso_jax.optim._sparsity import SparseMaskState, sparse_mask
from vasso_jax.optim._step import SharpnessAwareState
from vasso_jax.optim._value_and_update import can_ask, has_clean_pass, value_and_update

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
    "can_ask",
    "friendly",
    "friendly_sam",
    "gsam",
    "has_clean_pass",
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
