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

from vasso_jax.optim._arguments import check_aux, check_gradient, indexed
from vasso_jax.optim._numerics import (
    cast_like,
    leafwise,
    select,
    vary_with,
    widened,
    without_float0,
)
from vasso_jax.optim._typed import lax, tree_map

GradFn = Callable[..., optax.Updates]
Results = tuple[Any, Any]
Evaluated = tuple[optax.Updates, Results]
Evaluate = Callable[[optax.Params, Any], Evaluated]
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
            leaf has a leading axis of that size. Without meaning where not taken: see `aux_or`.
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
    """What the passes of one step returned beside their gradients, and how far they are apart.

    What is not read costs nothing under `jax.jit`.

    Attributes:
        clean: `Evaluation` at w.
        perturbed: `Evaluation` at w + eps; not `taken` for an optimizer without such a pass.
        perturbation_norm: float32 scalar, ||(w + eps) - w|| as realised in the parameters' dtype.
            NaN where there is no perturbed pass.
        cosine: float32 scalar, cosine between the clean gradient and the realised perturbation:
            for an L2 ball, between the gradient and the direction. 0 where either vanishes, NaN
            where a pass is missing.
        is_finite: bool scalar, whether the gradient that the perturbation is made of is finite, of
            which directions that remember leave out those that are not; True where there is none.

    With one perturbation per microbatch or device, norm and cosine are means over these.
    """

    clean: Evaluation
    perturbed: Evaluation
    perturbation_norm: jax.Array
    cosine: jax.Array
    is_finite: jax.Array

    @property
    def first(self) -> Evaluation:
        """The clean evaluation, or the perturbed one where the step made no other; always taken.

        It is what to log, and where to take BatchNorm's statistics from, for the methods of one
        evaluation per step.
        """
        taken, value, aux = self.clean
        if aux is not None:
            aux = select(taken, aux, self.perturbed.aux)
        value = jnp.where(taken, value, self.perturbed.value)
        return Evaluation(taken | self.perturbed.taken, value, aux)


@dataclasses.dataclass(frozen=True)
class LossGradFn:
    """A `grad_fn` made of a loss function."""

    loss_fn: Callable[..., Any]
    has_aux: bool

    def evaluate(self, params: optax.Params, i: Any) -> Evaluated:
        """The gradient, and the value and aux, of microbatch i.

        For complex parameters it is JAX's conjugated, the direction of steepest ascent, as optax
        expects it.
        """
        value_and_grad: Any = jax.value_and_grad(self.loss_fn, has_aux=self.has_aux)
        results, grads = value_and_grad(params, i)
        grads = tree_map(lambda g: g.conj() if jnp.iscomplexobj(g) else g, grads)
        return grads, results if self.has_aux else (results, None)

    def value_fn(self, microbatches: int) -> Callable[..., Any]:
        """The mean loss of the microbatches as a function of the parameters."""

        def value(params: optax.Params, grad_fn: Any = None) -> Any:
            del grad_fn  # optax's line searches insist on an argument for each extra one
            results = [self.loss_fn(params, i) for i in range(microbatches)]
            values = [result[0] if self.has_aux else result for result in results]
            return sum(values[1:], start=values[0]) / microbatches

        return value

    def __call__(self, params: optax.Params, i: Any) -> optax.Updates:
        return self.evaluate(params, i)[0]


def as_evaluate(grad_fn: Callable[..., optax.Updates], microbatches: int) -> Evaluate:
    """`grad_fn` as an `Evaluate`; it may leave out the argument `i` if there is one microbatch.

    Raises:
        ValueError: it leaves out `i`, and there are several.
    """
    if isinstance(grad_fn, LossGradFn):
        return grad_fn.evaluate
    with_index = indexed("grad_fn", grad_fn, microbatches)

    def evaluate(params: optax.Params, i: Any) -> Evaluated:
        grads = with_index(params, i)
        check_gradient("what grad_fn(params, i) returns", grads, params)
        return without_float0(grads), NO_RESULTS

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
        return zeros_of(function, *args)

    return lax.cond(needed, function, zeros, *args)


def zeros_of(function: Callable[..., _T], *args: Any) -> _T:
    """Zeros in the place of function(*args), with their sharding."""
    # Not jnp.zeros, which would lose the sharding on a mesh of explicit axes.
    return tree_map(lambda x: jnp.zeros_like(x), jax.eval_shape(function, *args))


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
        zeros, _ = zeros_of(function, jnp.int32(0))

        def add(total: Any, i: jax.Array) -> tuple[Any, Any]:
            summand, results = function(i)
            return _sum(total, summand), results

        total, results = jax.lax.scan(
            add, as_local(widened(zeros), axis_name), jnp.arange(microbatches)
        )
        mean = cast_like(tree_map(lambda t: t / microbatches, total), zeros)
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
