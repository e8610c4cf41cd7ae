"""Sharpness-aware optimizers as ordinary optax transforms. Needs jax and optax, nothing else.

**Parts.** A method is a product of small transforms:

    direction     g -> d      suppress_variance(theta) | friendly(sigma, theta) | nothing (SAM)
                              | remember(any optax transform)
    geometry      d -> eps    l2_ball(rho) | adaptive_ball(rho, eta) | loss_budget_ball(budget)
                              | preconditioned_ball(rho), with sparse_mask(density)
    perturbation  = optax.chain(direction, geometry)
    gradient      g -> grad L(w + eps)    sharpness_aware(perturbation, descent=...)
                              | m_sharpness_aware(perturbation) | look_sharpness_aware(perturbation)
                              | single_pass_sharpness_aware(perturbation)
    descent       (g, grad L(w + eps)) -> updates    surrogate_gap(a) | weighted_sharpness(gamma)
    vasso(base, rho, theta)   = optax.chain(sharpness_aware(perturbation), base)

**Recipes.** `vasso`, `vasso_asam`, `vasso_gsam`, `sam`, `asam`, `friendly_sam`, `ssam`, `gsam`,
`looksam`, `wsam`, `lesam`, `momentum_sam` and `preconditioned_sam` are published methods. Each is a
function of a base optimizer and the arguments below, where it has them; its docstring describes the
others. `bar` balances the factors of LoRA instead of perturbing them.

A recipe returns a transform whose `update` needs `params` and `grad_fn`: see `sharpness_aware` for
the convention, `value_and_update` for a whole step in one call. It raises ValueError for a number
that is out of range, and TypeError for a base that is not an optax transform.

Costs in the docstrings are gradient evaluations per step, and memory besides the base's that lasts
from step to step, in copies of the parameters. With `refresh_every` or `refresh="descent"`, a
method without a memory gets one: a copy that holds the last direction. With `refresh="descent"`
every method costs 1 evaluation, with a window 1 outside of it.

Args:
    base: the optax optimizer that takes the step, such as `optax.sgd(0.1)`. Weight decay and
        clipping belong in it.
    rho: radius of the perturbation, >= 0, or a schedule of the step.
    mask: which parameters are perturbed, None (all) or a mask such as `matrices` or
        `normalization`; see `l2_ball`.
    refresh_every: k >= 1, the direction is renewed every k-th step; see `sharpness_aware`.
    refresh: what feeds the direction: `clean` (or None), the gradient at w; or `descent`, the
        gradients that make the steps, at one evaluation; see `single_pass_sharpness_aware`.
    active: the steps at which parameters are perturbed, (start, end); see `sharpness_aware`.
    ascent_steps: n >= 1, the moves of which eps is made; see `sharpness_aware`.
    microbatches: m >= 1, the parts in which the batch is evaluated; see `sharpness_aware`.
    accumulator_dtype: dtype of the copies of the parameters that it keeps, such as float32 or
        bfloat16; see `suppress_variance`. Refused by methods that keep none.
"""

from vasso_jax.optim._bar import BarState, bar
from vasso_jax.optim._clipping import clip_by_global_norm
from vasso_jax.optim._descent import (
    DescentRule,
    rho_tied_to_lr,
    surrogate_gap,
    weighted_sharpness,
)
from vasso_jax.optim._directions import (
    FriendlyState,
    SuppressVarianceState,
    friendly,
    suppress_variance,
)
from vasso_jax.optim._evaluation import Evaluation, GradFn, Passes
from vasso_jax.optim._geometries import BallState, adaptive_ball, l2_ball
from vasso_jax.optim._looksam import look_sharpness_aware
from vasso_jax.optim._loss_budget import LossBudgetState, loss_budget_ball
from vasso_jax.optim._m_sharpness import m_sharpness_aware
from vasso_jax.optim._masks import (
    matrices,
    normalization,
)
from vasso_jax.optim._memory import (
    RemembersDirection,
    RememberState,
    cosine,
    kept_direction,
    remember,
)
from vasso_jax.optim._momentum_sam import MomentumSamState, momentum_sam
from vasso_jax.optim._preconditioned import PreconditionedBallState, preconditioned_ball
from vasso_jax.optim._recipes_descent import gsam, lesam, looksam, preconditioned_sam, wsam
from vasso_jax.optim._recipes_sam import asam, friendly_sam, sam, ssam
from vasso_jax.optim._recipes_vasso import vasso, vasso_asam, vasso_gsam
from vasso_jax.optim._sharpness_aware import sharpness_aware
from vasso_jax.optim._single_pass import single_pass_sharpness_aware
from vasso_jax.optim._sparsity import SparseMaskState, sparse_mask
from vasso_jax.optim._step import SharpnessAwareState
from vasso_jax.optim._value_and_update import can_ask, is_single_pass, value_and_update
from vasso_jax.optim._wsam import DecoupledState

__all__ = [
    "BallState",
    "BarState",
    "DecoupledState",
    "DescentRule",
    "Evaluation",
    "FriendlyState",
    "GradFn",
    "LossBudgetState",
    "MomentumSamState",
    "Passes",
    "PreconditionedBallState",
    "RememberState",
    "RemembersDirection",
    "SharpnessAwareState",
    "SparseMaskState",
    "SuppressVarianceState",
    "adaptive_ball",
    "asam",
    "bar",
    "can_ask",
    "clip_by_global_norm",
    "cosine",
    "friendly",
    "friendly_sam",
    "gsam",
    "is_single_pass",
    "kept_direction",
    "l2_ball",
    "lesam",
    "look_sharpness_aware",
    "looksam",
    "loss_budget_ball",
    "m_sharpness_aware",
    "matrices",
    "momentum_sam",
    "normalization",
    "preconditioned_ball",
    "preconditioned_sam",
    "remember",
    "rho_tied_to_lr",
    "sam",
    "sharpness_aware",
    "single_pass_sharpness_aware",
    "sparse_mask",
    "ssam",
    "suppress_variance",
    "surrogate_gap",
    "value_and_update",
    "vasso",
    "vasso_asam",
    "vasso_gsam",
    "weighted_sharpness",
    "wsam",
]
