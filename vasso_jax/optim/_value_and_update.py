# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""One call for a whole step: both passes' loss values and aux, and the parameter updates."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from vasso_jax.optim._evaluation import Evaluation, LossGradFn, Passes
from vasso_jax.optim._transform import asks, take_passes
from vasso_jax.optim._typed import tree_map


def value_and_update(
    loss_fn: Callable[..., Any],
    tx: optax.GradientTransformation | optax.MultiSteps,
    has_aux: bool = False,
) -> Callable[..., tuple[Passes, optax.Updates, optax.OptState]]:
    """What `jax.value_and_grad` is to a gradient, for the whole step of any optax optimizer.

    The optimizer evaluates the loss where and when it needs it, and the values and aux of its
    passes come back: report the clean loss, take BatchNorm's statistics from either pass. With
    `refresh_every=k` and with LookSAM this is what really saves the other passes (see `Evaluation`:
    `taken`). An optimizer that is not sharpness-aware gets its gradient, and has a clean pass only.

    BatchNorm: let the loss function return the moved running statistics as aux, and carry on
    `passes.clean.aux_or(old)`, which keeps the old ones where the clean pass was saved. (With
    microbatches, all of which start from the old ones, their mean over the leading axis.)

    Under `jax.shard_map` the loss must be the mean over the devices (`jax.lax.pmean`), but for
    `m_sharpness_aware`: there it is the device's own, and so is the value that comes back.

    To take both passes' BatchNorm statistics in turn, as VaSSO's authors do: where both passes
    started from running statistics `old` and returned `clean` and `perturbed`, and new ones weigh
    m, the second pass started from the first one's result gives
    `perturbed + (1 - m) * (clean - old)`.

    Args:
        loss_fn: `(params, i, *args, **kwargs) -> loss`, or `-> (loss, aux)` with `has_aux`; loss is
            a scalar, i the microbatch (0 without microbatches). Both passes get the same args:
            the same batch and the same dropout key.
        tx: any optax transform. If what it is given reaches a sharpness-aware transform as it is
            (all recipes, also first in `optax.chain`, `optax.named_chain` and
            `optax.inject_hyperparams`), that transform asks for its gradients. Inside other
            wrappers (`masked`, `partition`, `MultiSteps`) it is given them: all is the same, but no
            pass is saved, and the perturbed one is not reported. In `masked` and `partition` it
            perturbs its own parameters, the others stay at w.
            Optimizers that are not sharpness-aware get `value`, `grad` and `value_fn`, as optax's
            line searches want them; what else `update` can be given needs a direct call of it.
        has_aux: whether loss_fn returns aux.

    Returns:
        A function `(params, state, *args, **kwargs) -> (passes, updates, new_state)`; pure, to be
        jitted by the caller.

    Raises:
        ValueError: (from the function) microbatches inside such a wrapper.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from vasso_jax.optim import sam, value_and_update
        >>> loss_fn = lambda w, i, x: 0.5 * jnp.sum((w - x) ** 2)
        >>> tx = sam(optax.sgd(0.5), rho=0.1)
        >>> w, x = jnp.array([1.0, 0.0]), jnp.zeros(2)
        >>> passes, updates, state = value_and_update(loss_fn, tx)(w, tx.init(w), x)
        >>> print(passes.clean.value, passes.perturbed.value, optax.apply_updates(w, updates))
        0.5 0.605 [0.45 0.  ]
    """
    # optax.MultiSteps takes extra arguments as it is.
    update: Any = tx.update
    if isinstance(tx, optax.GradientTransformation):
        update = optax.with_extra_args_support(tx).update

    def step(
        params: optax.Params, state: optax.OptState, *args: Any, **kwargs: Any
    ) -> tuple[Passes, optax.Updates, optax.OptState]:

        def loss_of_part(at: optax.Params, i: Any) -> Any:
            return loss_fn(at, i, *args, **kwargs)

        loss_grad_fn = LossGradFn(loss_of_part, has_aux)
        if asks(update, state, params):
            updates, state = update(None, state, params, grad_fn=loss_grad_fn)
            passes, state = take_passes(state)
            return passes, updates, state

        def own_part(part: optax.Params, i: Any) -> optax.Updates:
            if not isinstance(i, int):
                raise ValueError(
                    "value_and_update cannot feed microbatches to a sharpness-aware transform "
                    "inside another wrapper: put it first, and the wrapper around what follows it"
                )
            whole = tree_map(_fill, part, params, is_leaf=_is_masked)
            return tree_map(_mask_as, part, loss_grad_fn(whole, i), is_leaf=_is_masked)

        def value_of(at: optax.Params, grad_fn: Any = None) -> Any:
            del grad_fn  # optax's line searches insist on an argument for each extra one
            result = loss_of_part(at, 0)
            return result[0] if has_aux else result

        grads, (value, aux) = loss_grad_fn.evaluate(params, 0)
        updates, state = update(
            grads, state, params, grad_fn=own_part, value=value, grad=grads, value_fn=value_of
        )
        clean = Evaluation(jnp.array(True), value, aux)
        untaken = Evaluation(
            jnp.array(False),
            jnp.full_like(value, jnp.nan),
            tree_map(lambda x: jnp.zeros_like(x), aux),
        )
        return Passes(clean, untaken), updates, state

    return step


def _is_masked(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)


def _fill(part: Any, whole: Any) -> Any:
    return whole if _is_masked(part) else part


def _mask_as(part: Any, whole: Any) -> Any:
    return part if _is_masked(part) else whole
