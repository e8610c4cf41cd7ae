# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""A whole step in one call: both passes' loss values and aux, and the parameter updates."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import indexed
from vasso_jax.optim._asking import Ask, Needs, needs_of, split
from vasso_jax.optim._evaluation import Evaluated, GradFn, LossGradFn, Passes, evaluation
from vasso_jax.optim._step import moving, report, whole_batch
from vasso_jax.optim._typed import tree_map


def value_and_update(
    loss_fn: Callable[..., Any],
    tx: optax.GradientTransformation | optax.MultiSteps,
    has_aux: bool = False,
) -> Callable[..., tuple[Passes, optax.Updates, optax.OptState]]:
    """What `jax.value_and_grad` is to a gradient, for the whole step of any optax optimizer.

    The optimizer evaluates the loss where and when it needs it, and the values and aux of its
    passes are returned: report the clean loss, take BatchNorm's statistics from either pass. With
    `refresh_every=k` and with LookSAM this is what really saves the other passes (see `taken` of
    `Evaluation`). An optimizer that is not sharpness-aware gets its gradient, and has only a clean
    pass.

    **Which passes are saved and reported.** An optimizer can ask for its gradients where no other
    transform touches the gradient before a sharpness-aware one: that holds for all recipes, also
    inside `optax.chain` and `optax.named_chain` (when first) and `optax.inject_hyperparams`. In any
    other place, such as `optax.masked`, `optax.partition`, `optax.MultiSteps` or after another
    transform, it is given its clean gradient. The updates are the same, but no pass is saved, and
    the perturbed one is not reported. In `masked` and `partition` it perturbs its own parameters,
    the others stay at w. (To find out, `update` is traced once more, without the loss; `can_ask`
    gives the answer.)

    **Accumulation.** `optax.MultiSteps(vasso(base), k)` accumulates clean gradients: the direction
    is that of k minibatches, but the perturbed gradient, which makes the update, is that of the
    last minibatch alone. The perturbed passes of the others are made and thrown away. Put it around
    the base instead, `vasso(optax.MultiSteps(base, k).gradient_transformation())`: each minibatch
    then has its own perturbation, both passes are reported, and the update is that of the mean
    perturbed gradient. For one perturbation of one large batch, use `microbatches=k`.

    **BatchNorm.** Let the loss function return the new running statistics as aux, and keep
    `passes.clean.aux_or(old)`, which is the old ones where the clean pass was saved. (With
    microbatches, all of which start from the old ones, take the mean over the leading axis first.)
    To use both passes' statistics in turn, as VaSSO's authors do: where both passes started from
    `old` and returned `clean` and `perturbed`, and new statistics have weight m,
    `perturbed + (1 - m) * (clean - old)` is what the second pass would have returned after the
    first.

    **Devices.** Under `jax.shard_map` the loss must be the mean over the devices
    (`jax.lax.pmean`), except for `m_sharpness_aware`: there it is the device's own loss, and so is
    the value that is returned.

    Args:
        loss_fn: `(params, i, *args, **kwargs) -> loss`, or `-> (loss, aux)` with `has_aux`; loss is
            a scalar, i the microbatch (0 without microbatches). A function that has no argument i
            is called without it. Both passes get the same args: the same batch and the same
            dropout key.
        tx: any optax transform. It also gets `value` and `grad`, the loss and the gradient of the
            clean pass, and `value_fn`, the loss as a function of the parameters, which bases such
            as `optax.lbfgs` and `optax.contrib.momo` need. (Where the clean pass is not made at
            every step, it gets them, and no pass is saved, only if it needs them.) For other extra
            arguments call `tx.update` directly.
        has_aux: whether loss_fn returns aux.

    Returns:
        A function `(params, state, *args, **kwargs) -> (passes, updates, new_state)`, where
        `passes` is a `Passes`. It is pure, and not yet jitted.

    Raises:
        ValueError: (from the function) microbatches for an optimizer that cannot ask.

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
    update = _update_of(tx)

    def step(
        params: optax.Params, state: optax.OptState, *args: Any, **kwargs: Any
    ) -> tuple[Passes, optax.Updates, optax.OptState]:
        def grad_fn_of(microbatches: int) -> LossGradFn:
            loss_of = indexed("loss_fn", loss_fn, microbatches)

            def loss_of_part(at: optax.Params, i: Any) -> Any:
                return loss_of(at, i, *args, **kwargs)

            return LossGradFn(loss_of_part, has_aux)

        def ask(
            clean: Evaluated | None, extra_args: dict[str, Any], grad_fn: LossGradFn
        ) -> tuple[Passes, optax.Updates, optax.OptState]:
            updates, reported = update(Ask(clean), state, params, grad_fn=grad_fn, **extra_args)
            passes, new_state = split(reported)
            return passes, updates, new_state

        at = moving(params)
        needs = _needs_of(update, state, params)
        if needs is not None and needs.clean == "always":
            grad_fn = grad_fn_of(needs.microbatches)
            clean = whole_batch(grad_fn.evaluate, needs.microbatches)(at)
            return ask(clean, _values(clean, needs.microbatches, grad_fn), grad_fn)
        if needs is not None:
            return ask(None, {}, grad_fn_of(needs.microbatches))

        grad_fn = grad_fn_of(1)
        grads, results = clean = grad_fn.evaluate(at, 0)
        updates, new_state = update(
            grads, state, params, **_values(clean, 1, grad_fn), grad_fn=_for_parts(grad_fn, at)
        )
        nothing = tree_map(lambda x: jnp.zeros_like(x), results)
        unknown = jnp.full((), jnp.nan, jnp.float32)
        passes = report(evaluation(True, results), evaluation(False, nothing), unknown, unknown)
        return passes, updates, new_state

    return step


def _values(clean: Evaluated, microbatches: int, grad_fn: LossGradFn) -> dict[str, Any]:
    """The extra arguments that bases such as `optax.lbfgs` need."""
    grads, results = clean
    value = evaluation(True, results, microbatches).value
    return {"value": value, "grad": grads, "value_fn": grad_fn.value_fn(microbatches)}


def _no_values(params: optax.Params) -> dict[str, Any]:
    """What looks like them."""

    def value_fn(params: Any = None, grad_fn: Any = None) -> jax.Array:
        del params, grad_fn
        return jnp.zeros(())

    return {"value": value_fn(), "grad": params, "value_fn": value_fn}


def can_ask(tx: optax.GradientTransformation | optax.MultiSteps, params: optax.Params) -> bool:
    """Whether `tx` asks for its gradients, so that `value_and_update` reports its perturbed pass.

    False for an optimizer that is not sharpness-aware, and for one inside a transform that hides
    it; see `value_and_update`. Nothing is computed.

    Args:
        tx: any optax transform.
        params: arrays, or their shapes as of `jax.eval_shape`.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from vasso_jax.optim import can_ask, sam
        >>> w, tx = jnp.zeros(2), sam(optax.sgd(0.1))
        >>> print(can_ask(tx, w), can_ask(optax.MultiSteps(tx, 2), w), can_ask(optax.sgd(0.1), w))
        True False False
    """
    return _needs(tx, params) is not None


def is_single_pass(
    tx: optax.GradientTransformation | optax.MultiSteps, params: optax.Params
) -> bool:
    """Whether a step of `tx` is one evaluation, at w + eps; arguments as for `can_ask`.

    `value_and_update` reports it as the perturbed pass, and outside of a window as the clean one.
    False for an optimizer that does not perturb, for one that cannot ask, and for one whose base
    needs the loss of a clean pass.
    """
    needs = _needs(tx, params)
    return needs is not None and needs.clean == "never"


def _needs(
    tx: optax.GradientTransformation | optax.MultiSteps, params: optax.Params
) -> Needs | None:
    update = _update_of(tx)

    def answer(params: optax.Params) -> Needs | None:
        return _needs_of(update, tx.init(params), params)

    return jax.eval_shape(answer, params)


def _needs_of(
    update: Callable[..., Any], state: optax.OptState, params: optax.Params
) -> Needs | None:
    """What the transform needs if it is asked; None: it cannot be.

    Only where the clean pass is always made, the base can be given what that returns.
    """
    needs = needs_of(update, state, params, _no_values(moving(params)))
    if needs is not None and needs.clean == "always":
        return needs
    return needs_of(update, state, params, {})


def _update_of(tx: optax.GradientTransformation | optax.MultiSteps) -> Any:
    # optax.MultiSteps already takes extra arguments.
    if isinstance(tx, optax.GradientTransformation):
        return optax.with_extra_args_support(tx).update
    return tx.update


def _for_parts(grad_fn: GradFn, params: optax.Params) -> GradFn:
    """`grad_fn` for a transform that has only a part of the parameters, as in `optax.masked`."""

    def of_part(part: optax.Params, i: Any) -> optax.Updates:
        if not isinstance(i, int):
            raise ValueError(
                "value_and_update cannot feed microbatches to a sharpness-aware transform "
                "inside another wrapper: put it first, and the wrapper around what follows it"
            )
        whole = tree_map(
            lambda own, other: other if _is_masked(own) else own, part, params, is_leaf=_is_masked
        )
        grads = grad_fn(whole, i)
        return tree_map(
            lambda own, grad: own if _is_masked(own) else grad, part, grads, is_leaf=_is_masked
        )

    return of_part


def _is_masked(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)
