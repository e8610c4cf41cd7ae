"""Whether a network and an optimizer can do what the steps ask of them.

Both may be the user's own code. They are traced on shapes, as the steps call them, so that what
would fail in the first step is one message before the run begins. Nothing is computed.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from vasso_jax import optim
from vasso_jax.own_code import own_code

_NO_FIT = "the optimizer (tx, or method and base) does not fit the parameters of the network"
_Shape = jax.ShapeDtypeStruct


def check_network(
    model: nn.Module,
    params: Any,
    batch_stats: Any,
    image_shape: tuple[int, int, int],
    num_classes: int,
    batch_size: int,
) -> None:
    """Traces both calls of the network.

    Args:
        model: the network.
        params, batch_stats: the shapes of its variables.
        image_shape: (H, W, C).
        num_classes: of the data set.
        batch_size: images per call in training.

    Raises:
        ValueError: a call fails, gives no logits, or changes the shape of a statistic, or something
            is float64.
    """
    variables = {"params": params, "batch_stats": batch_stats}
    _check_not_float64(variables)
    images = _Shape((batch_size, *image_shape), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))

    def train(variables: Any, images: Any, key: Any) -> Any:
        rngs = {"dropout": key}
        return model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)

    def evaluate(variables: Any, images: Any) -> Any:
        return model.apply(variables, images, train=False)

    call = (
        "model.apply(variables, images, train=True, mutable=['batch_stats'], rngs={'dropout': key})"
    )
    with own_code("the network cannot be trained", call):
        logits, moved = jax.eval_shape(train, variables, images, key)
    check_logits(logits, batch_size, num_classes)
    _check_not_float64({"logits": logits, **moved})
    before, after = (jax.tree.map(_type_of, x) for x in (batch_stats, moved.get("batch_stats", {})))
    if before != after:
        raise ValueError(
            "the network cannot be trained: train=True changes the names, shapes or dtypes of its "
            f"batch_stats from {before} to {after}"
        )
    with own_code("the network cannot be evaluated", "model.apply(variables, images, train=False)"):
        logits = jax.eval_shape(evaluate, variables, images)
    check_logits(logits, batch_size, num_classes)


def check_params(params: Any) -> None:
    """Raises ValueError unless there are parameters, and all of them are floats."""
    if not jax.tree.leaves(params):
        raise ValueError("the network cannot be trained: it has no parameters")
    for path, leaf in jax.tree.leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(
                f"the network cannot be trained: its parameter {name} is {leaf.dtype}, no float; "
                "what is not trained belongs into the collection batch_stats"
            )


def check_logits(logits: Any, images: int, num_classes: int) -> None:
    """Raises ValueError unless this is what a network must return, or its shape."""
    if not isinstance(logits, jax.Array | _Shape):
        raise ValueError(
            f"the network must return logits [B, {num_classes}] and nothing else, got a "
            f"{type(logits).__name__}"
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"the network must return logits that are floats, got {logits.dtype}")
    if logits.shape != (images, num_classes):
        count = "one image" if images == 1 else f"{images} images"
        raise ValueError(
            f"the network gives logits of shape {logits.shape} for {count}, but the data set has "
            f"{num_classes} classes: give it a last layer of that size (num_classes)"
        )


def _check_not_float64(tree: Any) -> None:
    for path, leaf in jax.tree.leaves_with_path(tree):
        if leaf.dtype == jnp.float64:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(
                f"the network cannot be trained: its {name} is float64, and the trainer computes "
                "in float32: set its dtype and param_dtype to float32, or leave JAX_ENABLE_X64 out"
            )


def _type_of(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def init_optimizer(tx: optax.GradientTransformation, params: Any) -> optax.OptState:
    """`tx.init(params)`.

    Raises:
        ValueError: that fails, as with a mask of other names than those of the parameters.
    """
    with own_code(_NO_FIT, "tx.init(params)"):
        return tx.init(params)


def check_optimizer(tx: optax.GradientTransformation, params: Any, state: Any) -> None:
    """Traces a step of the optimizer, on another loss.

    Args:
        tx: any optimizer.
        params, state: the shapes of the parameters and of the state of `tx`.

    Raises:
        ValueError: that fails.
    """

    def loss(params: Any, i: int) -> jax.Array:
        del i
        return optax.tree.norm(params, squared=True)

    def update(params: Any, state: Any) -> Any:
        _, updates, new_state = optim.value_and_update(loss, tx)(params, state)
        return optax.apply_updates(params, updates), new_state

    call = "tx.update(grads, state, params, grad_fn=..., value=..., grad=..., value_fn=...)"
    with own_code(_NO_FIT, call):
        jax.eval_shape(update, params, state)
