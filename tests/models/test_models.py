"""Sizes, shapes, dtypes, initialisation and refusals of the networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.models import create
from vasso_jax.models.layers import BatchNorm


def init(name, shape=(2, 32, 32, 3), num_classes=10, **kwargs):
    model = create(name, num_classes, **kwargs)
    x = jnp.zeros(shape)
    return model, jax.jit(lambda: model.init(jax.random.key(0), x, train=False))()


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [
        ("resnet18", 10, 11_173_962),
        ("resnet34", 10, 21_282_122),
        ("wrn28_10", 10, 36_479_194),
        ("wrn28_10", 100, 36_536_884),
    ],
)
def test_parameter_counts_are_the_published_ones(name, num_classes, count):
    model = create(name, num_classes)
    x = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count


@pytest.mark.parametrize("name", ["resnet18", "wrn10_1", "wrn16_4"])
@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (2, 33, 17, 4)])
def test_any_image_size_and_channel_count(name, shape):
    model = create(name, 7)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), train=False))
    logits = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False), variables, jax.ShapeDtypeStruct(shape, "f4")
    )
    assert logits.shape == (2, 7)


def test_bfloat16_computes_low_and_keeps_float32_parameters_and_statistics():
    model, variables = init("wrn10_1", dtype=jnp.bfloat16)
    x = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    logits, moved = model.apply(variables, x, train=True, mutable=["batch_stats"])
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, moved))} == {jnp.dtype("float32")}
    reference = create("wrn10_1", 10).apply(variables, x, train=True, mutable=["batch_stats"])[0]
    assert not jnp.array_equal(logits, reference)
    np.testing.assert_allclose(logits, reference, atol=0.05 * jnp.abs(reference).max())


def test_batch_norm_normalises_by_the_biased_variance_and_keeps_the_unbiased_one():
    x = np.random.default_rng(0).normal(3, 2, (2, 2, 1, 4)).astype(np.float32)
    norm = BatchNorm(momentum=0.25)
    variables = norm.init(jax.random.key(0), x, train=True)
    y, moved = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    flat = x.reshape(4, 4)
    mean = flat.mean(0)
    np.testing.assert_allclose(
        y.reshape(4, 4), (flat - mean) / np.sqrt(flat.var(0) + 1e-5), rtol=1e-4, atol=1e-5
    )
    statistics = moved["batch_stats"]
    np.testing.assert_allclose(statistics["mean"], 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(statistics["var"], 0.75 + 0.25 * flat.var(0, ddof=1), rtol=1e-5)
    # Initialising on a batch does not move them.
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], 0)


def test_initialisation_is_the_authors():
    _, variables = init("resnet18")
    kernel = variables["params"]["layer2_0"]["conv1"]["kernel"]
    bound = (3 * 3 * 64) ** -0.5
    assert jnp.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.02)
    bias = variables["params"]["linear"]["bias"]
    assert 0 < jnp.abs(bias).max() <= 512**-0.5

    _, variables = init("wrn10_1")
    kernel = variables["params"]["block3_0"]["conv2"]["kernel"]
    np.testing.assert_allclose(kernel.std(), (2 / (3 * 3 * 64)) ** 0.5, rtol=0.02)
    np.testing.assert_array_equal(variables["params"]["fc"]["bias"], 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "Did you mean resnet18?"),
        ("wrn11_1", r"6 n \+ 4"),
        ("wrn4_1", r"6 n \+ 4"),
        ("zzz", "Known: resnet18"),
    ],
)
def test_unknown_models_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        create(name, 10)
