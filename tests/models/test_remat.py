"""Rematerialisation: the same names, values and derivatives, in less memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.models.compilation import quick_compilation
from vasso_jax.models import VGG, PyramidNet, ResNet, ViT, WideResNet
from vasso_jax.models.remat import rematerialized
from vasso_jax.models.wide_resnet import PreActivationBlock

pytestmark = pytest.mark.slow

# Each with the number of its parts that are rematerialised.
FAMILIES = {
    "resnet": (partial(ResNet, (1, 1), bottleneck=True, imagenet=True), 2),
    "wrn": (partial(WideResNet, 10, 1), 3),
    "vgg": (partial(VGG, (1, 2), hidden=8), 2),
    "pyramidnet": (partial(PyramidNet, 8, 12), 3),
    "vit": (partial(ViT, 4, 16, depth=2, heads=2), 2),
}
families = pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[] if name == "vgg" else pytest.mark.weekly) for name in FAMILIES],
)


def make(family, remat, size=8, batch=4):
    """(model, loss, variables, images); loss(params, statistics, images) has logits, statistics."""
    model = FAMILIES[family][0](num_classes=5, remat=remat)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(batch, size, size, 3)), jnp.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    # Not the initialisation, whose zeros hide mistakes.
    variables = jax.tree.map(lambda s: rng.uniform(0.1, 0.3, s.shape).astype(np.float32), shapes)

    def loss(params, statistics, images):
        logits, moved = model.apply(
            {"params": params, "batch_stats": statistics},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )
        return jnp.sin(logits).sum(), (logits, moved.get("batch_stats", {}))

    return model, loss, (variables["params"], variables.get("batch_stats", {})), images


def assert_equal(actual, expected, tolerance=1e-5):
    """Up to rounding, relative to the largest entry of all."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    largest = max((float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected)), default=0)
    close = partial(np.testing.assert_allclose, rtol=0, atol=tolerance * largest)
    jax.tree.map(close, actual, expected)


@families
def test_initial_values_outputs_statistics_and_gradients_are_the_same(family):
    def of(remat):
        model, loss, variables, images = make(family, remat)

        def everything(params, statistics, images):
            initial = model.init(jax.random.key(0, impl="unsafe_rbg"), images, train=False)
            (_, (logits, moved)), gradient = jax.value_and_grad(loss, has_aux=True)(
                params, statistics, images
            )
            return initial, logits, moved, gradient

        with quick_compilation():
            return jax.jit(everything)(*variables, images)

    (initial, *results), (expected_initial, *expected) = of(remat=True), of(remat=False)
    jax.tree.map(np.testing.assert_array_equal, initial, expected_initial)
    for result, other in zip(results, expected, strict=True):
        assert_equal(result, other)


@pytest.mark.weekly
@pytest.mark.parametrize("family", FAMILIES)
def test_only_a_gradient_computes_anything_again(family):
    def programs(remat):
        _, loss, variables, images = make(family, remat)
        return [jax.jit(f).lower(*variables, images) for f in (loss, jax.grad(loss, has_aux=True))]

    def flops(program):
        return program.cost_analysis()["flops"]

    def barriers(program):
        return program.as_text().count("optimization_barrier")

    (forward, gradient), (plain_forward, plain_gradient) = programs(True), programs(False)
    assert flops(forward) == flops(plain_forward)
    # At most a forward pass more. The rest has one, and at least one of the same size.
    assert 1.05 < flops(gradient) / flops(plain_gradient) < 1.5
    assert barriers(gradient) - barriers(plain_gradient) == FAMILIES[family][1]


def compiled(f, *args):
    # XLA for CPUs of JAX 0.10 moves what is computed again into the forward pass otherwise.
    return jax.jit(f).lower(*args).compile({"xla_disable_hlo_passes": "cse_barrier_expander"})


def test_a_gradient_needs_less_memory():
    def temporaries(remat):
        _, loss, variables, images = make("wrn", remat, size=16, batch=16)
        program = compiled(jax.grad(loss, has_aux=True), *variables, images)
        return program.memory_analysis().temp_size_in_bytes

    assert temporaries(True) < 0.75 * temporaries(False)


def block_loss(remat):
    """(loss, variables, images) of one block."""
    block = rematerialized(PreActivationBlock, remat, static_argnums=(2,))(4, 1, jnp.float32)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4, 4, 3)), jnp.float32)
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), images, False))
    variables = jax.tree.map(lambda s: jnp.linspace(0.5, 1, s.size).reshape(s.shape), shapes)

    def loss(params, images):
        of = {**variables, "params": params}
        y, _ = block.apply(of, images, True, mutable=["batch_stats"])
        return jnp.sin(y).sum()

    return loss, variables["params"], images


@pytest.mark.weekly
def test_derivatives_of_derivatives_and_of_many():
    def of(remat):
        loss, params, images = block_loss(remat)

        @jax.jit
        def derivatives(params, images):
            tangents = jax.tree.map(jnp.cos, params)
            grad = partial(jax.grad(loss), images=images)
            many = jax.tree.map(lambda p, t: jnp.stack([p, p + t]), params, tangents)
            return jax.jvp(grad, (params,), (tangents,)), jax.vmap(grad)(many)

        with quick_compilation():
            return derivatives(params, images)

    for result, expected in zip(of(True), of(False), strict=True):
        assert_equal(result, expected)


def test_the_statistics_of_a_batch_are_not_exchanged_again():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))

    def exchanges(remat):
        loss, params, images = block_loss(remat)
        split = NamedSharding(mesh, PartitionSpec("data"))
        with quick_compilation():
            program = compiled(jax.grad(loss), params, jax.device_put(images, split))
        return program.as_text().count(" all-reduce(")

    assert exchanges(True) == exchanges(False) > 0
