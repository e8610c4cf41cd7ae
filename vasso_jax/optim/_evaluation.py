# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Evaluations of the gradient: over microbatches, only when needed, with what else a pass returns.

An `Evaluate` is a function `(params, i) -> (gradient, results)`; `results` is a pytree, empty for a
plain `grad_fn`, and the loss value and aux of a pass for a `LossGradFn`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._numerics import vary_with, widen
from vasso_jax.optim._typed import lax, tree_map

GradFn = Callable[[optax.Params, Any], optax.Updates]
Evaluate = Callable[[optax.Params, Any], tuple[optax.Updates, Any]]
AxisName = str | tuple[str, ...]
_T = TypeVar("_T")


class Evaluation(NamedTuple):
    """What one pass returned beside its gradient.

    Attributes:
        taken: bool scalar. False where the step did without this pass: with `refresh_every` and for
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
            ValueError: `otherwise` has not the structure and shapes of aux.
        """
        if shapes(otherwise) != shapes(self.aux):
            raise ValueError(
                f"aux is {shapes(self.aux)}, and the alternative {shapes(otherwise)}: with "
                "microbatches, average aux over its leading axis first"
            )
        return tree_map(lambda a, o: jnp.where(self.taken, a, o), self.aux, otherwise)


class Passes(NamedTuple):
    """What the passes of one step returned beside their gradients.

    Attributes:
        clean: `Evaluation` at w.
        perturbed: `Evaluation` at w + eps; not `taken` for an optimizer without such a pass.
    """

    clean: Evaluation
    perturbed: Evaluation


class Found(NamedTuple):
    """What one pass of a step found: whether it was taken, and the results of its evaluations."""

    taken: jax.Array | bool
    results: Any

    def evaluation(self, microbatches: int) -> Evaluation:
        """The same for the user, of the results of a `LossGradFn`."""
        value, aux = self.results
        value = value if microbatches == 1 else value.mean(0)
        # A loud value: a zero would pass for a loss.
        return Evaluation(jnp.asarray(self.taken), jnp.where(self.taken, value, jnp.nan), aux)


def shapes(tree: Any) -> Any:
    """Structure and shapes of a pytree."""
    return jax.tree.map(jnp.shape, tree)


class LossGradFn:
    """A `grad_fn` made from a loss function, which also has the values and aux of its passes."""

    def __init__(self, loss_fn: Callable[..., Any], has_aux: bool) -> None:
        self._value_and_grad: Callable[..., Any] = jax.value_and_grad(loss_fn, has_aux=has_aux)
        self._has_aux = has_aux

    def evaluate(self, params: optax.Params, i: Any) -> tuple[optax.Updates, Any]:
        """The gradient, and the value and aux, of microbatch i.

        For complex parameters it is JAX's conjugated, the direction of steepest ascent, as optax
        expects it.
        """
        results, grads = self._value_and_grad(params, i)
        grads = tree_map(lambda g: g.conj() if jnp.iscomplexobj(g) else g, grads)
        return grads, results if self._has_aux else (results, None)

    def __call__(self, params: optax.Params, i: Any) -> optax.Updates:
        return self.evaluate(params, i)[0]


def as_evaluate(grad_fn: GradFn) -> Evaluate:
    """`grad_fn` with its results, which are empty for a plain function."""
    if isinstance(grad_fn, LossGradFn):
        return grad_fn.evaluate

    def evaluate(params: optax.Params, i: Any) -> tuple[optax.Updates, Any]:
        grads = grad_fn(params, i)
        if jax.tree.structure(grads) != jax.tree.structure(params):
            raise ValueError(
                "grad_fn(params, i) must return a gradient with the structure of the parameters, "
                f"{jax.tree.structure(params)}; it returned {jax.tree.structure(grads)} (use "
                "jax.grad, not jax.value_and_grad)"
            )
        return grads, ()

    return evaluate


def if_needed(needed: jax.Array | bool, function: Callable[..., _T], *args: Any) -> _T:
    """function(*args) where `needed`, else zeros; a Python bool leaves no conditional behind."""
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
        zeros = tree_map(lambda s: widen(jnp.zeros(s.shape, s.dtype)), shapes)

        def add(total: Any, i: jax.Array) -> tuple[Any, Any]:
            summand, results = function(i)
            return tree_map(lambda t, x: t + x, total, summand), results

        total, results = jax.lax.scan(add, as_local(zeros, axis_name), jnp.arange(microbatches))
        mean = tree_map(lambda t, s: (t / microbatches).astype(s.dtype), total, shapes)
    if axis_name is not None:
        mean = jax.lax.pmean(mean, axis_name)
    return mean, results


def as_local(tree: _T, axis_name: AxisName | None) -> _T:
    """`tree`, marked as differing between the devices along the axis.

    Under `jax.shard_map` the gradient for parameters that all devices share is summed over the
    devices by autodiff; for these it stays the device's own.
    """
    if axis_name is None:
        return tree
    index: Any = jax.lax.axis_index(axis_name)
    return tree_map(lambda x: vary_with(x, index), tree)
