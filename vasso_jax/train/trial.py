"""Tries networks and optimizers on shapes: what cannot train is refused before the run starts."""

import inspect
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from vasso_jax import optim
from vasso_jax.train.state import TrainState, nodes_of


class _AsksForMicrobatchError(Exception):
    """The optimizer asked for a part of the batch."""


def check_call(model: nn.Module) -> None:
    """Raises ValueError unless the network can be called as `(images, train)`."""
    parameters = inspect.signature(type(model).__call__).parameters.values()
    if not any(p.name == "train" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise ValueError(
            f"the network {type(model).__name__} must be called as (images, train) -> logits, but "
            "its __call__ has no argument train"
        )


def check_training(model: nn.Module, shapes: TrainState, image_shape: tuple[int, int, int]) -> None:
    """Checks that a network can be called in training as the trainer does it.

    Args:
        shapes: the state at step 0, of ShapeDtypeStructs.
        image_shape: (H, W, C).

    Raises:
        ValueError: it cannot, or has parameters that are not floating-point numbers. An error in
            the network's own code is raised as it is.
    """
    for path, leaf in jax.tree.leaves_with_path(shapes.params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"the network has the parameter {jax.tree_util.keystr(path)} of {leaf.dtype}: only "
                "floating-point numbers are trained; keep others in the collection batch_stats"
            )

    def call(variables: Any, images: Any, key: Any) -> Any:
        streams = {"dropout": key}
        return model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=streams)

    variables = {"params": shapes.params, "batch_stats": shapes.batch_stats}
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    try:
        jax.eval_shape(call, variables, images, jax.random.key(0))
    except (flax.errors.InvalidRngError, flax.errors.ScopeParamNotFoundError) as error:
        raise ValueError(
            f"the network cannot be trained: {error} The only random stream in training is "
            "dropout, and all parameters must be made in the call with train=False"
        ) from error


def check_optimizer(tx: Any, params: Any = None, *, scheduled: bool) -> None:
    """Checks that an optimizer can take a step, of a whole batch, and every batch in the same way.

    It is traced, without the network.

    Args:
        tx: an optax transform, or an `optax.MultiSteps`.
        params: of the network, as shapes; None: not known yet. Then an optimizer that fails passes,
            as it may be made for them.
        scheduled: whether its learning rate follows the schedule of the run.

    Raises:
        ValueError: it does not fit the parameters, asks for microbatches, or contains an
            `optax.MultiSteps` that would slow the schedule down, or that is around a
            sharpness-aware transform.
    """
    shapes = params
    if shapes is None:
        shapes = {"layer": {"kernel": jax.ShapeDtypeStruct((2, 2), jnp.float32)}}
    try:
        state = jax.eval_shape(tx.init, shapes)
    except Exception as error:
        _refuse(error, params)
        return
    _check_accumulation(state, scheduled=scheduled)
    if _asks_for_microbatches(tx, shapes, state):
        raise ValueError(
            "the optimizer asks for microbatches, but the trainer takes each batch whole: leave "
            "its argument microbatches out"
        )
    try:
        jax.eval_shape(optim.value_and_update(_loss, tx), shapes, state)
    except Exception as error:
        _refuse(error, params)


def _refuse(error: Exception, params: Any) -> None:
    if params is not None:
        raise ValueError(
            f"the optimizer does not fit the parameters of this network: {error}"
        ) from error


def _loss(params: Any, i: Any) -> jax.Array:
    del i
    return sum((jnp.sum(leaf) for leaf in jax.tree.leaves(params)), jnp.zeros(()))


def _asks_for_microbatches(tx: Any, params: Any, state: Any) -> bool:
    def grad_fn(at: Any, i: Any) -> Any:
        if not isinstance(i, int):
            raise _AsksForMicrobatchError
        return at

    def update(w: Any, state: Any) -> Any:
        return optax.with_extra_args_support(tx).update(w, state, w, grad_fn=grad_fn)

    try:
        jax.eval_shape(update, params, state)
    except _AsksForMicrobatchError:
        return True
    except Exception:  # the second trial tells
        return False
    return False


def _check_accumulation(state: optax.OptState, *, scheduled: bool) -> None:
    accumulating = nodes_of(optax.MultiStepsState, state)
    if accumulating and scheduled:
        raise ValueError(
            "optax.MultiSteps reads the learning rate at its own updates, of which there are fewer "
            "than steps, so the schedule would not reach its end: raise batch_size, or give the "
            "whole optimizer with a schedule of its own, as train(config, workdir, tx=...)"
        )
    if nodes_of(optim.SharpnessAwareState, [state.inner_opt_state for state in accumulating]):
        raise ValueError(
            "optax.MultiSteps around a sharpness-aware optimizer uses the perturbed gradient of "
            "its last batch only: put it around the base, as in "
            "sam(optax.MultiSteps(base, 2).gradient_transformation()), or raise batch_size"
        )
