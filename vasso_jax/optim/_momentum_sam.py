# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Momentum-SAM: the perturbation follows the momentum of the base optimizer."""

from typing import Any, NamedTuple

import jax
import optax

from vasso_jax.optim._arguments import (
    ScalarOrSchedule,
    Window,
    check_params,
    check_transform,
)
from vasso_jax.optim._geometries import ball
from vasso_jax.optim._masks import (
    Mask,
)
from vasso_jax.optim._single_pass import single_pass
from vasso_jax.optim._step import SharpnessAwareState, moving
from vasso_jax.optim._typed import tree_map


class MomentumSamState(NamedTuple):
    """State of `momentum_sam`.

    Attributes:
        gradient: a `SharpnessAwareState`.
        base: state of the base, which contains the momentum.
    """

    gradient: SharpnessAwareState
    base: optax.OptState


def momentum_sam(
    base: optax.GradientTransformation,
    rho: ScalarOrSchedule = 3.0,
    *,
    mask: Mask | None = None,
    active: Window | None = None,
    microbatches: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Momentum-SAM: one evaluation per step, perturbed along the base's momentum.

        eps = - rho m / (||m|| + 1e-12),  m the momentum of the base, before this step
        w  <- base step with grad L(w + eps), applied at w

    The sign is minus, and rho is about ten times that of SAM: m is a sum of gradients, and the step
    goes along -m, so eps looks ahead, where the last steps overshoot and the loss of the next
    minibatch rises. (Nesterov's momentum does the same with eps = - lr mu m, which shrinks with the
    learning rate.) The authors find that the other sign harms. The first step is that of the base.

    The running statistics of BatchNorm are those of w + eps; the authors renew them at w before
    they evaluate.

    Cost: 1 evaluation, no memory.

    Args:
        rho: radius, >= 0, or a schedule of the step. The authors: 3 on CIFAR and ImageNet; for
            vision transformers 0 during the warm-up of the learning rate.
        base: with a momentum, such as `optax.sgd(0.1, momentum=0.9)` or `optax.adamw(1e-3)`, whose
            m is the first moment.
        mask, active, microbatches: see `vasso_jax.optim`.

    Raises:
        ValueError: (from `init`) the base has no momentum of the parameters, or several.

    References:
        Becker et al., Momentum-SAM: Sharpness Aware Minimization without Computational Overhead,
        algorithm 1, https://arxiv.org/abs/2401.12033

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from vasso_jax.optim import momentum_sam
        >>> grad_fn = jax.grad(lambda w, i: 0.5 * jnp.sum(w**2))
        >>> tx, w = momentum_sam(optax.sgd(1.0, momentum=0.5), rho=1.0), jnp.array([3.0, 4.0])
        >>> first, state = tx.update(None, tx.init(w), w, grad_fn=grad_fn)
        >>> second, state = tx.update(None, state, w, grad_fn=grad_fn)
        >>> print(-first, -second)
        [3. 4.] [3.9 5.2]
    """
    check_transform("base", base)
    base = optax.with_extra_args_support(base)
    gradient = single_pass(
        optax.chain(_against_momentum(), ball(rho, mask, offset=1e-12)),
        active,
        microbatches,
        check_it=False,
    )

    def init(params: optax.Params) -> MomentumSamState:
        state = base.init(params)
        _momentum_of(state, moving(params))
        inner: Any = gradient.init(params)
        return MomentumSamState(inner, state)

    def update(
        updates: Any, state: Any, params: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, MomentumSamState]:
        check_params("momentum_sam", params)
        momentum = _momentum_of(state.base, moving(params))
        grads, new_gradient = gradient.update(
            updates, state.gradient, params, **extra_args, momentum=momentum
        )
        new_updates, new_base = base.update(grads, state.base, params, **extra_args)
        inner: Any = new_gradient
        return new_updates, MomentumSamState(inner, new_base)

    return optax.GradientTransformationExtraArgs(init, update)


def _against_momentum() -> optax.GradientTransformationExtraArgs:
    """The direction -m, where m is the extra argument `momentum`."""

    def update(
        updates: Any, state: Any, params: Any = None, *, momentum: Any, **extra_args: Any
    ) -> tuple[Any, Any]:
        del updates, params, extra_args
        return tree_map(lambda m: -m, momentum), state

    update_fn: Any = update
    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update_fn)


def _momentum_of(state: optax.OptState, params: optax.Params) -> Any:
    """The one momentum in the state of a base: optax calls it `trace` or `mu`."""
    names = ("trace", "mu")

    def holds(node: Any) -> bool:
        return any(name in getattr(node, "_fields", ()) for name in names)

    nodes = [node for node in jax.tree.leaves(state, is_leaf=holds) if holds(node)]
    found = [getattr(node, name) for node in nodes for name in names if hasattr(node, name)]
    fitting = [m for m in found if jax.tree.structure(m) == jax.tree.structure(params)]
    if len(fitting) != 1:
        raise ValueError(
            f"momentum_sam needs a base with one momentum for all parameters, such as "
            f"optax.sgd(0.1, momentum=0.9) or optax.adamw(1e-3); this one has {len(fitting)}"
        )
    return fitting[0]
