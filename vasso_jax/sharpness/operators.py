"""Curvature matrices of a mean loss, by their products with vectors; none is ever formed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from vasso_jax.sharpness.objective import Batch, Objective, Params
from vasso_jax.sharpness.precision import in_full_precision
from vasso_jax.sharpness.tracing import check_not_traced

Vector = Any
Sample = Callable[[jax.Array, jax.Array, Batch], Batch]


class Operator(NamedTuple):
    """A symmetric matrix over some of the parameters; `hessian` and the others here make one.

    It is a pytree: a jitted function takes it as an argument, and one program then serves all
    operators of the same kind, functions and shapes.

    Attributes:
        part: `(objective, point, chosen, vector, batch, weights) -> product`, of one batch;
            `point(chosen)` are all parameters.
        objective: the mean loss.
        chosen: the parameters that the matrix is over; None where the mask leaves a leaf out.
        fixed: the other parameters; None where a leaf is chosen.
    """

    part: Partial
    objective: Objective
    chosen: Params
    fixed: Params

    @property
    def like(self) -> Vector:
        """Of every chosen leaf a `jax.ShapeDtypeStruct`; with its sharding if that is committed."""

        def like(x: jax.Array) -> jax.ShapeDtypeStruct:
            sharding = x.sharding if x.committed else None
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

        return jax.tree.map(like, self.chosen)

    @property
    def size(self) -> int:
        """The number of rows: how many parameters are chosen."""
        return sum(x.size for x in jax.tree.leaves(self.chosen))

    @in_full_precision
    @jax.jit
    def product(self, vector: Vector) -> Vector:
        """The matrix times a vector, in one pass over the data.

        Args:
            vector: like the parameters, with their shapes, dtypes and shardings; None where the
                mask leaves a leaf out.

        Returns:
            The same structure.
        """

        def of_batch(batch: Batch, weights: jax.Array) -> Vector:
            return self.part(self.objective, self._point, self.chosen, vector, batch, weights)

        return self.objective.mean(of_batch)

    def _point(self, chosen: Params) -> Params:
        return jax.tree.map(
            lambda x, y: y if x is None else x, chosen, self.fixed, is_leaf=lambda x: x is None
        )


def hessian(objective: Objective, params: Params, mask: Any = None) -> Operator:
    """The Hessian of the mean loss, H v = d/dr grad L(w + r v) at r = 0 (Pearlmutter, 1994).

    Args:
        objective: the mean loss L.
        params: the point w; float32 or float64, which is also the dtype of the products.
        mask: a tree of bools like `params`, whether a leaf is among the variables; the others are
            constants. By default all are variables.

    Raises:
        ValueError: a leaf of the variables is neither float32 nor float64, the mask has another
            structure, other leaves than bools or chooses nothing, or a parameter or the loss is not
            finite.
    """
    return _operator(_hessian, objective, params, mask)


def gauss_newton(objective: Objective, params: Params, mask: Any = None) -> Operator:
    """The generalized Gauss-Newton matrix, the mean of J^T H_out J over the examples.

    J is the Jacobian of the outputs in the parameters and H_out the Hessian of the losses in the
    outputs. With losses that are convex in the outputs it has no negative eigenvalue. For softmax
    cross-entropy it is the Fisher matrix (Martens, arXiv 1412.1193, sections 8 and 9).

    Args:
        objective: the mean loss; `outputs` and `losses` must be apart, see `mean_loss`.
        params: see `hessian`.
        mask: see `hessian`.

    Raises:
        ValueError: see `hessian`.
    """
    return _operator(_gauss_newton, objective, params, mask)


def sample_labels(key: jax.Array, outputs: jax.Array, batch: Batch) -> Batch:
    """The batch with labels drawn from the softmax of the outputs.

    Args:
        key: a PRNG key.
        outputs: logits, float [B, ..., C].
        batch: a dict or NamedTuple with integer `labels` [B, ...].

    Raises:
        ValueError: the batch has no such labels.
    """
    labels = batch.get("labels") if isinstance(batch, dict) else getattr(batch, "labels", None)
    if labels is None or jnp.shape(labels) != outputs.shape[:-1]:
        raise ValueError(
            "labels can only be sampled in place of batch['labels'] or batch.labels with one class "
            "index per softmax: pass `sample`, which puts targets into a batch"
        )
    sampled = jax.random.categorical(key, outputs).astype(labels.dtype)
    if isinstance(batch, dict):
        return batch | {"labels": sampled}
    return batch._replace(labels=sampled)


def fisher(
    objective: Objective,
    params: Params,
    key: jax.Array | None = None,
    mask: Any = None,
    sample: Sample = sample_labels,
) -> Operator:
    """The mean of g g^T over the examples, where g is the gradient of the loss of one example.

    Without a key, the losses are those of the data: the empirical Fisher matrix, which is not an
    estimate of the Fisher matrix (arXiv 1905.12558). With a key, the targets are drawn from the
    model, one for each example; over keys the mean is the Fisher matrix if the losses are negative
    log-likelihoods.

    Args:
        objective: the mean loss. If the network normalises by the batch, g is the derivative of one
            loss through the statistics of the whole batch.
        params: see `hessian`.
        key: a PRNG key; the same key gives the same targets in every product.
        mask: see `hessian`.
        sample: `(key, outputs, batch) -> batch` with targets drawn from the model; pure. It has no
            effect without a key.

    Raises:
        ValueError: see `hessian` and `sample_labels`, or `sample` is given without a key.
    """
    if key is not None:
        objective = _with_sampled_targets(objective, key, sample)
    elif sample is not sample_labels:
        raise ValueError("sample has no effect without a key: give a key, or leave it out")
    return _operator(_fisher, objective, params, mask)


def check_operator(operator: Operator) -> None:
    """Raises ValueError unless it is one, with values."""
    if not isinstance(operator, Operator):
        raise ValueError(
            "operator must be a matrix that hessian, gauss_newton or fisher has made, not "
            f"{type(operator).__name__}"
        )
    check_not_traced(operator)


def _hessian(objective, point, chosen, vector, batch, weights):
    slope = jax.grad(lambda chosen: objective.summed(point(chosen), batch, weights))
    return jax.jvp(slope, (chosen,), (vector,))[1]


def _gauss_newton(objective, point, chosen, vector, batch, weights):
    def network(chosen):
        return objective.outputs(point(chosen), batch)

    def loss(outputs):
        losses = objective.losses_of(outputs, batch)
        return (losses * weights.astype(losses.dtype)).sum()

    outputs, change = jax.jvp(network, (chosen,), (vector,))
    curved = jax.jvp(jax.grad(loss), (outputs,), (change,))[1]
    return jax.vjp(network, chosen)[1](curved)[0]


def _fisher(objective, point, chosen, vector, batch, weights):
    def losses(chosen):
        return objective.losses_of(objective.outputs(point(chosen), batch), batch)

    _, slopes = jax.jvp(losses, (chosen,), (vector,))  # g . v, of each example
    return jax.vjp(losses, chosen)[1](slopes * weights.astype(slopes.dtype))[0]


def _with_sampled_targets(objective: Objective, key: jax.Array, sample: Sample) -> Objective:
    """The same, but the losses draw their targets, with a key for each batch.

    The targets are drawn again in each product, from the same outputs by the same key, so that no
    second copy of the data is needed.
    """
    keys = jax.random.split(key, len(objective.weights))
    return Objective(
        Partial(_outputs_without_key, objective.outputs),
        Partial(_losses_of_sampled, objective.losses, Partial(sample)),
        (objective.batches, keys),
        objective.weights,
    )


def _outputs_without_key(outputs, params, batch_and_key):
    return outputs(params, batch_and_key[0])


def _losses_of_sampled(losses, sample, outputs, batch_and_key):
    batch, key = batch_and_key
    return losses(outputs, sample(key, jax.lax.stop_gradient(outputs), batch))


def _operator(part: Callable, objective: Objective, params: Params, mask: Any) -> Operator:
    params = jax.tree.map(jnp.asarray, params)
    mask = jax.tree.map(lambda _: True, params) if mask is None else mask
    _check_mask(mask, params)
    chosen = jax.tree.map(lambda x, m: x if m else None, params, mask)
    fixed = jax.tree.map(lambda x, m: None if m else x, params, mask)
    objective.check_finite(params, chosen)
    return Operator(Partial(part), objective, chosen, fixed)


def _check_mask(mask: Any, params: Params) -> None:
    leaves, structure = jax.tree.flatten(mask)
    if structure != jax.tree.structure(params):
        raise ValueError(
            "mask must have the structure of the parameters, a bool for each array; got "
            f"{structure} for {jax.tree.structure(params)}"
        )
    if not all(isinstance(leaf, bool) for leaf in leaves):
        raise ValueError(f"mask must consist of bools, got {leaves}")
    if not any(leaves):
        raise ValueError("mask chooses no parameters")
