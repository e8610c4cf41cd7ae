"""Losses whose neighbourhood is known, and a small network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from vasso_jax.sharpness import mean_loss


def first(losses, batch):
    return losses


def _function(function, params, batch):
    return jnp.broadcast_to(function(params), len(batch))


def of_function(function):
    """The objective of `function(params) -> scalar`, of which the data know nothing."""
    return mean_loss(Partial(_function, Partial(function)), first, np.zeros(1, np.float32), 1)


def _quadratic(matrix, params):
    x = jnp.concatenate([params["a"], params["b"].ravel()])
    return 0.5 * x @ matrix @ x


def quadratic(matrix):
    """0.5 x^T A x of a tree with six numbers."""
    return of_function(Partial(_quadratic, jnp.asarray(matrix, jnp.float32)))


def six(values):
    """A tree of six numbers, as `quadratic` takes it."""
    values = np.asarray(values, np.float32)
    return {"a": jnp.asarray(values[:2]), "b": jnp.asarray(values[2:].reshape(2, 2))}


def network(params, x):
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"]


def _logits(params, batch):
    return network(params, batch["x"])


def cross_entropy(logits, batch):
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])


def weights():
    rng = np.random.default_rng(0)
    shapes = {"w1": (3, 8), "b1": (8,), "w2": (8, 4)}
    return {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}


def examples(number=16, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(number, 3)).astype(np.float32)
    return {"x": x, "y": rng.integers(0, 4, number)}


def classification(data=None, batch_size=8):
    """The cross-entropy of a network with one hidden layer of ReLU units."""
    return mean_loss(_logits, cross_entropy, examples() if data is None else data, batch_size)
