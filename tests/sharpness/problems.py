"""Losses whose curvature is known, or small enough to be formed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec as P

from vasso_jax.sharpness import hessian, mean_loss


def cross_entropy(outputs, batch):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["labels"])


def perceptron(params, batch):
    hidden = jnp.tanh(batch["x"] @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return hidden @ params["head"]["kernel"] + params["head"]["bias"]


def convolution(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def network(params, batch, statistics=None):
    """Convolution, BatchNorm by `statistics` or those of the batch, softplus, mean, linear."""
    y = convolution(batch["x"], params["kernel"])
    mean, var = statistics or (y.mean((0, 1, 2)), y.var((0, 1, 2)))
    y = (y - mean) / jnp.sqrt(var + 1e-5) * params["scale"] + params["bias"]
    return jax.nn.softplus(y).mean((1, 2)) @ params["head"]


def running(params, batch):
    return network(params, batch, (jnp.full(4, 0.1), jnp.full(4, 1.5)))


def drawn(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: rng.normal(size=shape) * 0.5, shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def of_perceptron(width=5, inputs=3, classes=4, examples=11, seed=0):
    """(params, data): three batches of 4, of which the last has 3 examples."""
    shapes = {
        "hidden": {"kernel": (inputs, width), "bias": (width,)},
        "head": {"kernel": (width, classes), "bias": (classes,)},
    }
    rng = np.random.default_rng(seed + 1)
    data = {"x": rng.normal(size=(examples, inputs)), "labels": rng.integers(0, classes, examples)}
    return drawn(shapes, seed), data


def of_network(examples=8):
    shapes = {"kernel": (3, 3, 2, 4), "scale": (4,), "bias": (4,), "head": (4, 3)}
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(size=(examples, 5, 5, 2)), "labels": rng.integers(0, 3, examples)}
    return drawn(shapes), data


def batches(data, size=4):
    count = len(data["labels"])
    places = [slice(i, i + size) for i in range(0, count, size)]
    return [{name: x[place] for name, x in data.items()} for place in places]


def mean(outputs, data):
    """The mean loss as a function of the parameters, written out batch by batch."""
    parts = batches(data)
    count = len(data["labels"])
    return lambda p: sum(cross_entropy(outputs(p, part), part).sum() for part in parts) / count


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(jax.device_get(tree))])


def formed(function, params):
    """The dense Hessian of a function of the parameters, [P, P]."""
    flat, unravel = ravel_pytree(params)
    return np.asarray(jax.jit(jax.hessian(lambda x: function(unravel(x))))(flat))


def for_several_devices():
    """(objective, params) that divide over them."""
    params, data = of_perceptron(width=16, inputs=8, examples=30)
    return mean_loss(perceptron, cross_entropy, data, 16), params


def on_all_devices(objective, params, kind, spread):
    """The same on a mesh: batches split, parameters shared, and one of them split if `spread`."""
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        shared = jax.device_put(jax.tree.map(jnp.asarray, params), P())
        if spread:
            shared["hidden"]["kernel"] = jax.device_put(shared["hidden"]["kernel"], P("x"))
        of_data = jax.device_put((objective.batches, objective.weights), P(None, "x"))
        return objective._replace(batches=of_data[0], weights=of_data[1]), shared, mesh


def quadratic_form(params, batch):
    x = ravel_pytree(params)[0]
    return jnp.einsum("i,bij,j->b", x, batch, x) / 2


def itself(outputs, batch):
    return outputs


def with_hessian(matrix, params=None):
    """The Hessian, as an operator, of 0.5 x^T A x at x = 1 or at `params`."""
    matrix = np.asarray(matrix, float)
    params = {"x": np.ones(len(matrix))} if params is None else params
    return hessian(mean_loss(quadratic_form, itself, matrix[None], 1), params)


def with_eigenvalues(values, seed=0):
    """A dense symmetric matrix with these eigenvalues."""
    rng = np.random.default_rng(seed)
    vectors, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    return (vectors * np.asarray(values)) @ vectors.T
