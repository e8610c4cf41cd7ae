# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Evaluations of the gradient: over microbatches, only when needed, with value and aux.

An `Evaluate` is a function `(params, i) -> (gradient, (value, aux))`. For a plain `grad_fn` value
and aux are None.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import check_aux, check_gradient
from vasso_jax.optim._numerics import cast_like, leafwise, select, vary_with, widened
from vasso_jax.optim._typed import lax, tree_map

GradFn = Callable[[optax.Params, Any], optax.Updates]
Results = tuple[Any, Any]
Evaluate = Callable[[optax.Params, Any], tuple[optax.Updates, Results]]
AxisName = str | tuple[str, ...]
_T = TypeVar("_T")

NO_RESULTS: Results = (None, None)


class Evaluation(NamedTuple):
    """What one pass returned beside its gradient.

    Attributes:
        taken: bool scalar. False where the step saved this pass: with `refresh_every`, and for
            LookSAM.
        value: the loss, a scalar; with microbatches, their mean. NaN where not taken.
        aux: what the loss function returned beside it, or None; with two or more microbatches every
            leaf has a leading axis of that size. Zeros where not taken: see `aux_or`.
    """

    taken: jax.Array
    value: Any
    aux: Any

    def aux_or(self, otherwise: Any) -> Any:
        """aux where the pass was taken, else `otherwise`.

        Raises:
            ValueError: `otherwise` does not have the structure and shapes of aux.
        """
        check_aux(self.aux, otherwise)
        return select(self.taken, self.aux, otherwise)


class Passes(NamedTuple):
    """What the passes of one step returned beside their gradients.

    Attributes:
        clean: `Evaluation` at w.
        perturbed: `Evaluation` at w + eps; not `taken` for an optimizer without such a pass.
    """

    clean: Evaluation
    perturbed: Evaluation


@dataclasses.dataclass(frozen=True)
class LossGradFn:
    """A `grad_fn` made of a loss function."""

    loss_fn: Callable[..., Any]
    has_aux: bool

    def evaluate(self, params: optax.Params, i: Any) -> tuple[optax.Updates, Results]:
        """The gradient, and the value and aux, of microbatch i.

        For complex parameters it is JAX's conjugated, the direction of steepest ascent, as optax
        expects it.
        """
        value_and_grad: Any = jax.value_and_grad(self.loss_fn, has_aux=self.has_aux)
        results, grads = value_and_grad(params, i)
        grads = tree_map(lambda g: g.conj() if jnp.iscomplexobj(g) else g, grads)
        return grads, results if self.has_aux else (results, None)

    def __call__(self, params: optax.Params, i: Any) -> optax.Updates:
        return self.evaluate(params, i)[0]


def as_evaluate(grad_fn: GradFn) -> Evaluate:
    """`grad_fn` as an `Evaluate`."""
    if isinstance(grad_fn, LossGradFn):
        return grad_fn.evaluate

    def evaluate(params: optax.Params, i: Any) -> tuple[optax.Updates, Results]:
        grads = grad_fn(params, i)
        check_gradient(grads, params)
        return grads, NO_RESULTS

    return evaluate


def evaluation(taken: jax.Array | bool, results: Results, microbatches: int = 1) -> Evaluation:
    """The `Evaluation` of a pass; with two or more microbatches, `results` are stacked."""
    value, aux = results
    if microbatches > 1:
        value = tree_map(lambda v: v.mean(0), value)
    # NaN, since a zero could be taken for a loss.
    value = tree_map(lambda v: jnp.where(taken, v, jnp.nan), value)
    return Evaluation(jnp.asarray(taken), value, aux)


def if_needed(needed: jax.Array | bool, function: Callable[..., _T], *args: Any) -> _T:
    """function(*args) where `needed`, else zeros; the Python bool True makes no conditional."""
    if needed is True:
        return function(*args)

    def zeros(*args: Any) -> _T:
        return tree_map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *args))

    return lax.cond(needed, function, zeros, *args)


def mean_over(
    function: Callable[[Any], tuple[_T, Any]], microbatches: int, axis_name: AxisName | None = None
) -> tuple[_T, Any]:
    """Mean of the first, stack of the second result of function(i) for i in 0 .. microbatches - 1.

    Sums are taken in float32 or wider, one microbatch after the other in a `jax.lax.scan`. With one
    microbatch it is function(0). With an axis name, the mean is also over that axis of devices.
    """
    if microbatches == 1:
        mean, results = function(0)
    else:
        shapes, _ = jax.eval_shape(function, jnp.int32(0))
        zeros = widened(tree_map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))

        def add(total: Any, i: jax.Array) -> tuple[Any, Any]:
            summand, results = function(i)
            return _sum(total, summand), results

        total, results = jax.lax.scan(add, as_local(zeros, axis_name), jnp.arange(microbatches))
        mean = cast_like(tree_map(lambda t: t / microbatches, total), shapes)
    if axis_name is not None:
        mean = jax.lax.pmean(mean, axis_name)
    return mean, results


@leafwise
def _sum(total: Any, summand: Any) -> Any:
    return total + summand


def as_local(tree: _T, axis_name: AxisName | None) -> _T:
    """`tree`, marked as differing between the devices along the axis.

    Under `jax.shard_map`, autodiff sums the gradient for parameters that all devices share over the
    devices. With this mark the gradient stays the device's own.
    """
    if axis_name is None:
        return tree
    index: Any = jax.lax.axis_index(axis_name)
    return vary_with(tree, index)
