"""Derivatives of whole networks: every mode and order, and inside `jax.shard_map`."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, PartitionSpec

from tests.models.compilation import quick_compilation
from vasso_jax.models import VGG, PyramidNet, ResNet, ViT, WideResNet

FAMILIES = {
    "resnet": partial(ResNet, (1, 1), bottleneck=True, imagenet=True),
    "wrn": partial(WideResNet, 10, 1),
    "vgg": partial(VGG, (1, 1), hidden=8),
    "pyramidnet": partial(PyramidNet, 8, 12),
    "vit": partial(ViT, 4, 16, depth=1, heads=2),
    "vgg_remat": partial(VGG, (1, 1), hidden=8, remat=True),
    "wrn_remat": partial(WideResNet, 10, 1, remat=True),
}


def slow_but_for_vgg(family):
    """Parameters of a test; VGG compiles fastest."""
    marks = {"vgg": [], "resnet": pytest.mark.slow}
    return pytest.param(family, marks=marks.get(family, pytest.mark.weekly))


families = pytest.mark.parametrize("family", [slow_but_for_vgg(name) for name in FAMILIES])


def make(family, train, batch=4, dtype="float32"):
    """(loss, params, direction, images, labels) with loss(params, images, labels)."""
    model = FAMILIES[family](num_classes=5, dtype=dtype)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, 8, 8, 3)), dtype)
    labels = jnp.asarray(rng.integers(0, 5, batch))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    # Not the initialisation, whose zeros hide mistakes.
    draw = partial(jax.tree.map, lambda s: jnp.asarray(rng.normal(0.3, 0.3, s.shape), dtype))
    params = draw(shapes["params"])
    statistics = jax.tree.map(lambda s: jnp.ones(s.shape, dtype), shapes.get("batch_stats", {}))

    def loss(params, x, labels):
        logits, _ = model.apply(
            {"params": params, "batch_stats": statistics},
            x,
            train=train,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return loss, params, draw(shapes["params"]), x, labels


def assert_close(actual, expected, tolerance):
    """Up to rounding, relative to the largest entry of all."""
    actual, expected = (ravel_pytree(jax.device_get(tree))[0] for tree in (actual, expected))
    assert jnp.abs(expected).max() > 1e-3
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * jnp.abs(expected).max())


@families
def test_every_way_to_a_hessian_vector_product(family, x64):
    loss, params, direction, *batch = make(family, train=True, dtype="float64")

    def dot(a, b):
        return sum(map(jnp.vdot, jax.tree.leaves(a), jax.tree.leaves(b)))

    def slope(w):
        return jax.jvp(lambda w: loss(w, *batch), (w,), (direction,))[1]

    def same_slope(w):
        return dot(jax.grad(loss)(w, *batch), direction)

    @jax.jit
    def of(w):
        forward_over_reverse = jax.jvp(lambda w: jax.grad(loss)(w, *batch), (w,), (direction,))[1]
        slopes = slope(w), same_slope(w)
        return slopes, forward_over_reverse, jax.grad(slope)(w), jax.grad(same_slope)(w)

    with quick_compilation():
        slopes, *products, reverse_over_reverse = of(params)
    # The logits are rounded to float32.
    np.testing.assert_allclose(*slopes, rtol=1e-5)
    for product in products:
        assert_close(product, reverse_over_reverse, 1e-4)


@pytest.mark.skipif(not hasattr(optax.second_order, "hvp"), reason="optax 0.2.9 removes it")
@pytest.mark.weekly
def test_the_hessian_vector_product_of_optax():
    loss, params, direction, *batch = make("wrn", train=False)
    flat = ravel_pytree(direction)[0]
    with quick_compilation(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        product = jax.jit(partial(optax.second_order.hvp, loss))(flat, params, *batch)
        slope = jax.grad(lambda w: jnp.vdot(ravel_pytree(jax.grad(loss)(w, *batch))[0], flat))
        assert_close(product, jax.jit(slope)(params), 1e-5)


# Inside of shard_map every axis is manual, so that one network shows what the type of the axes
# changes: how the arguments go in and the results come out.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "axis_type"),
    [
        *(
            pytest.param(family, AxisType.Auto, marks=pytest.mark.weekly)
            for family in FAMILIES
            if family != "vgg_remat"
        ),
        ("vgg_remat", AxisType.Auto),
        ("vgg", AxisType.Explicit),
    ],
)
def test_in_shard_map_with_its_checks(family, axis_type):
    # With the running statistics: those of a batch would be those of each device's part.
    loss, params, direction, *batch = make(family, train=False, batch=8)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(axis_type,))
    split, shared = PartitionSpec("data"), PartitionSpec()

    def derivatives(loss, params, direction, *batch):
        """The loss, its gradient, and the derivatives of both along `direction`."""
        of = jax.value_and_grad(lambda w: loss(w, *batch))
        return jax.jvp(of, (params,), (direction,))

    def of_the_mean(*args):
        return derivatives(lambda *at: jax.lax.pmean(loss(*at), "data"), *args)

    with quick_compilation():
        expected = jax.jit(partial(derivatives, loss))(params, direction, *batch)
    with quick_compilation(), jax.set_mesh(mesh):
        sharded = jax.shard_map(
            of_the_mean, in_specs=(shared, shared, split, split), out_specs=shared
        )
        given = jax.device_put((params, direction), shared), jax.device_put(batch, split)
        actual = jax.jit(sharded)(*given[0], *given[1])
    assert_close(actual, expected, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
def test_on_an_explicit_mesh(train):
    loss, params, _, *batch = make("wrn", train=train, batch=8)
    grad = jax.jit(jax.value_and_grad(loss))
    with quick_compilation():
        expected = grad(params, *batch)
        with jax.set_mesh(jax.make_mesh((4,), ("data",))):
            shared = jax.device_put(params, PartitionSpec())
            actual = grad(shared, *jax.device_put(batch, PartitionSpec("data")))
    assert_close(actual, expected, 1e-5)
