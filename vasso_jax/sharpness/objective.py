"""A mean loss over a data set, evaluated in batches: what all measurements here are made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial

from vasso_jax.sharpness.precision import in_full_precision
from vasso_jax.sharpness.tracing import check_not_traced

Params = Any
Batch = Any


class Objective(NamedTuple):
    """The mean loss over a data set, as a pytree; `mean_loss` makes one.

    A jitted function takes it as an argument, so that the data are no constants of the program,
    and one program serves all objectives of the same two functions and shapes. Called from outside
    of a jitted function, it computes in the full precision of the parameters, on GPUs and TPUs too.

    Attributes:
        outputs: `(params, batch) -> outputs`, float [B, ...]; such as the logits of a network.
        losses: `(outputs, batch) -> losses`, float [B], one for each example.
        batches: pytree of arrays [N, B, ...]; a batch has the i-th entry of each.
        weights: float32 [N, B], of each example in the mean; 0 for what fills up the last batch.
    """

    outputs: Partial
    losses: Partial
    batches: Batch
    weights: jax.Array

    def summed(self, params: Params, batch: Batch, weights: jax.Array) -> jax.Array:
        """The weighted sum of the losses of one batch, a scalar."""
        losses = self.losses_of(self.outputs(params, batch), batch)
        return (losses * weights.astype(losses.dtype)).sum()

    def losses_of(self, outputs: jax.Array, batch: Batch) -> jax.Array:
        """The losses of one batch, float [B].

        Raises:
            ValueError: `losses` gives something else.
        """
        losses = self.losses(outputs, batch)
        expected = self.weights.shape[1:]
        if jnp.shape(losses) != expected:
            raise ValueError(
                f"losses must give one loss for each example of the batch, an array {expected}, "
                f"got {jnp.shape(losses)}: leave the mean over them to the objective"
            )
        return losses

    @jax.jit
    def part(self, i: int) -> "Objective":
        """The mean loss over batch i alone, as an objective of one batch."""
        batches, weights = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, i, 1), (self.batches, self.weights)
        )
        return self._replace(batches=batches, weights=weights)

    def mean(self, function: Callable[[Batch, jax.Array], Any]) -> Any:
        """Adds `function(batch, weights)`, a pytree, over all batches; over the sum of weights.

        Traced: one batch after the other, with one sum in memory.
        """
        first = jax.tree.map(lambda x: x[0], (self.batches, self.weights))
        # Not jnp.zeros, which has no sharding: on a mesh of explicit axes that is another type.
        zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(function, *first))

        def add(total: Any, batch_and_weights: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, function(*batch_and_weights)), None

        total, _ = jax.lax.scan(add, zero, (self.batches, self.weights))
        count = self.weights.sum()
        return jax.tree.map(lambda x: x / count.astype(x.dtype), total)

    @in_full_precision
    @jax.jit
    def value(self, params: Params) -> jax.Array:
        """The mean loss, a scalar."""
        return self.mean(lambda *batch: self.summed(params, *batch))

    def check_finite(self, params: Params, variables: Params | None = None) -> jax.Array:
        """The mean loss, in one pass over the data, where it and all parameters are finite.

        Args:
            params: pytree of arrays.
            variables: those that a measurement moves; by default all.

        Raises:
            ValueError: a parameter or the loss is NaN or infinite, or see `check_precision` and
                `check_not_traced`.
        """
        check_precision(params if variables is None else variables)
        check_parameters(params)
        value = self.value(params)
        if not jnp.isfinite(value):
            raise ValueError(
                f"the mean loss is {value}: nothing can be measured. The parameters are finite; "
                "look for data that are not, for labels that are not from 0 to the number of "
                "logits - 1, and for an overflow"
            )
        return value

    @in_full_precision
    @jax.jit
    def value_and_grad(self, params: Params) -> tuple[jax.Array, Params]:
        """The mean loss, and its gradient with the structure of the parameters."""
        return self.mean(lambda *batch: jax.value_and_grad(self.summed)(params, *batch))


def check_precision(variables: Params) -> None:
    """Raises ValueError unless all are float32 or float64.

    In less, the small changes of a measurement are rounded away: 1 + 0.001 is 1 in bfloat16.
    """
    for path, x in jax.tree_util.tree_leaves_with_path(variables):
        if jnp.result_type(x) not in (np.float32, np.float64):
            raise ValueError(
                f"what is varied must be float32 or float64, got {jnp.result_type(x)} for "
                f"params{jax.tree_util.keystr(path)}: cast it, leave it out by the mask of a "
                "curvature matrix, or bind it to `outputs` by jax.tree_util.Partial"
            )


def check_parameters(params: Params) -> None:
    """Raises ValueError unless there are some, with values, and all are finite."""
    check_not_traced(params)
    if not jax.tree.leaves(params):
        raise ValueError("params must have an array, at least one")
    for path, finite in jax.tree_util.tree_leaves_with_path(_finite(params)):
        if not finite:
            name = jax.tree_util.keystr(path)
            raise ValueError(f"the parameters {name} are not finite: nothing can be measured")


@jax.jit
def _finite(params: Params) -> Any:
    return jax.tree.map(lambda x: jnp.isfinite(x).all(), params)


def mean_loss(
    outputs: Callable[[Params, Batch], jax.Array],
    losses: Callable[[jax.Array, Batch], jax.Array],
    data: Batch,
    batch_size: int,
) -> Objective:
    """The mean of a loss over a data set.

    Args:
        outputs: `(params, batch) -> outputs`, float [B, ...]; pure. Arrays that it needs besides,
            such as the running statistics of BatchNorm, are best bound by `jax.tree_util.Partial`,
            which keeps them out of the constants of the program.
        losses: `(outputs, batch) -> losses`, float [B]; pure. A loss that is not made of outputs
            and targets can have all of itself in `outputs`, and `lambda losses, batch: losses`
            here; the Gauss-Newton matrix and the Fisher matrix by sampling need the two apart.
            Labels are up to it: optax takes the label -1 for the last class, and is NaN for one
            that is too large, which every measurement refuses.
        data: pytree of arrays [E, ...] with the same number E of examples; of numbers or bools.
        batch_size: B, examples per batch, in the order of the data. The last batch is filled up
            with copies of its own examples, which have no weight. To a network that normalises by
            the batch they do matter: some examples count twice in the mean and the variance. For
            such a network let the batch size divide the number of examples, or leave the last
            ones out.

    Raises:
        ValueError: if a leaf of the data is no such array, there are no examples, their number
            differs between the arrays, or the batch size is not a positive integer.
    """
    data = jax.tree_util.tree_map_with_path(_array, data)
    sizes = {len(x) for x in jax.tree.leaves(data)}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            f"data must be arrays with the same number of examples, at least 1, got {sizes}"
        )
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}")
    (size,) = sizes
    batch_size = min(batch_size, size)
    number = -(-size // batch_size)
    last = np.arange((number - 1) * batch_size, size)
    order = np.concatenate([np.arange((number - 1) * batch_size), np.resize(last, batch_size)])
    weights = np.arange(number * batch_size) < size

    def stacked(x: np.ndarray) -> jax.Array:
        return jnp.asarray(x[order].reshape(number, batch_size, *x.shape[1:]))

    return Objective(
        outputs if isinstance(outputs, Partial) else Partial(outputs),
        losses if isinstance(losses, Partial) else Partial(losses),
        jax.tree.map(stacked, data),
        jnp.asarray(weights.reshape(number, batch_size), jnp.float32),
    )


def _array(path: Any, x: Any) -> np.ndarray:
    """A leaf of the data, in host memory."""
    if isinstance(x, Tracer):
        check_not_traced(x)
    try:
        found = np.asarray(x)
    except TypeError:  # such as PRNG keys
        found = np.empty((), object)
    of_numbers = found.dtype == bool or jnp.issubdtype(found.dtype, np.number)
    is_array = hasattr(x, "dtype") and hasattr(x, "shape")
    if not is_array or not found.ndim or not of_numbers:
        what = f"{x.dtype} of shape {x.shape}" if is_array else f"a {type(x).__name__}"
        raise ValueError(
            f"data{jax.tree_util.keystr(path)} must be an array of numbers, with the examples "
            f"along its first axis, got {what}; np.asarray makes arrays of lists"
        )
    return found
