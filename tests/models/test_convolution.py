"""The convolution with written-out gradients against jax.lax's, whose gradients JAX derives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from tests.models.compilation import quick_compilation
from tests.models.convolutions import (
    ORDER,
    assert_equal,
    both_orders,
    curvatures,
    derived,
    draw,
    forward_mode,
    gradients,
    ours,
)
from vasso_jax.models.convolution import conv_general_dilated


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (1, 1)), ((0, 3), (2, 0))])
def test_gradients(size, stride, padding, x64):
    # With VALID and stride 2 the last of the 8 rows lies in no window.
    x, k = draw((8, 7), (size, size), "float64")
    args = (stride, stride), padding
    assert_equal(gradients(ours(*args))(x, k), gradients(derived(*args))(x, k), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((0, 3), (2, 0))])
def test_forward_mode(stride, padding, x64):
    x, k = draw((6, 5), (3, 2), "float64", batch=2)
    args = (stride, stride), padding
    with quick_compilation():
        actual, expected = (forward_mode(make(*args))(x, k) for make in (ours, derived))
    assert_equal(actual, expected, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("output", ["float32", None])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("of", [gradients, forward_mode])
def test_low_precision(of, dtype, output):
    x, k = draw(dtype=dtype)
    with quick_compilation():
        actual, expected = (
            of(make((2, 2), "SAME", preferred_element_type=output))(x, k)
            for make in (ours, derived)
        )
    assert_equal(actual, expected, 1e-5 if dtype == "float32" else 2e-2)


def test_jacobian_and_hessian(x64):
    x, k = draw((4, 4), (2, 2), "float64", batch=1, channels=2, features=2)

    def matrices(conv):
        def loss(k):
            return jnp.sin(conv(x, k)).sum()

        @jax.jit
        def of(k):
            jacobians = jax.jacfwd(conv, (0, 1))(x, k)
            return *jacobians, jax.hessian(loss)(k), jax.jacrev(jax.grad(loss))(k)

        return of(k)

    args = (2, 2), "SAME"
    actual = matrices(ours(*args))
    assert_equal(actual, matrices(derived(*args)), 1e-12)
    assert_equal(actual[-2:-1], actual[-1:], 1e-12)


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=12)
def test_gradients_and_curvatures_for_any_geometry(data):
    small = st.integers(1, 4)
    window, strides = data.draw(st.tuples(small, small)), data.draw(st.tuples(small, small))
    # Negative padding crops; the image must still hold the window.
    padding = data.draw(st.tuples(*[st.tuples(st.integers(-1, 4), st.integers(-1, 4))] * 2))
    least = [max(1, k - low - high) for k, (low, high) in zip(window, padding, strict=True)]
    image = tuple(n + data.draw(st.integers(0, 5)) for n in least)
    with jax.enable_x64(True), quick_compilation():
        x, k = draw(image, window, "float64", batch=2, channels=2, features=3)
        actual = both_orders(ours(strides, padding))(x, k)
        assert_equal(actual, both_orders(derived(strides, padding))(x, k), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("images_too", [False, True])
def test_gradients_and_curvatures_under_vmap(images_too, x64):
    x, k = draw(dtype="float64")
    if images_too:
        x = jnp.stack([x, jnp.sin(x)])
    actual, expected = (
        jax.vmap(both_orders(make((2, 2), "SAME")), (0 if images_too else None, 0))(
            x, jnp.stack([k, jnp.sin(k)])
        )
        for make in (ours, derived)
    )
    assert_equal(actual, expected, 1e-12)


@pytest.mark.slow
def test_vmap_over_images_is_one_convolution_with_our_gradients():
    x, k = draw()
    images = jnp.stack([x, jnp.sin(x)], axis=1)

    def of(make):
        def loss(images, k):
            y = jax.vmap(make((2, 2), "SAME"), (1, None), 1)(images, k)
            return jnp.sin(y).sum(), y

        return jax.grad(loss, (0, 1), has_aux=True)

    jaxpr = jax.make_jaxpr(of(ours))(images, k).jaxpr
    assert [str(e.primitive) for e in jaxpr.eqns if "conv" in str(e.primitive)] == [
        "convolution",
        "convolution_kernel_gradient",
        "convolution_input_gradient",
    ]
    assert_equal(*(jax.tree.leaves(of(make)(images, k)) for make in (ours, derived)), 1e-5)


@pytest.mark.slow
def test_third_derivative(x64):
    x, k = draw((5, 6), dtype="float64", batch=2)

    def third(conv):
        return jax.grad(lambda k: jnp.sin(curvatures(conv)(x, k)[1]).sum())(k)

    args = (2, 2), "SAME"
    assert_equal([third(ours(*args))], [third(derived(*args))], 1e-12)


def test_inside_flax():
    x, _ = draw()
    plain = nn.Conv(5, (3, 3), strides=2)
    layer = nn.Conv(5, (3, 3), strides=2, conv_general_dilated=conv_general_dilated)
    variables = plain.init(jax.random.key(0), x)
    np.testing.assert_array_equal(layer.apply(variables, x), plain.apply(variables, x))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"dimension_numbers": None},
        {"dimension_numbers": ("NCHW", "OIHW", "NCHW")},
        {"lhs_dilation": (2, 1)},
        {"rhs_dilation": (1, 2)},
        {"feature_group_count": 3},
        {"batch_group_count": 2},
        {"out_sharding": PartitionSpec("data")},
    ],
)
def test_what_is_not_supported_is_refused(kwargs):
    with pytest.raises(NotImplementedError, match="NHWC images and HWIO kernels, without dilation"):
        conv_general_dilated(*draw(), (1, 1), "SAME", **{"dimension_numbers": ORDER} | kwargs)


def test_other_ranks_are_refused():
    x, k = jnp.ones((2, 8, 3)), jnp.ones((3, 3, 5))
    with pytest.raises(NotImplementedError, match=r"lhs\.shape=\(2, 8, 3\)"):
        conv_general_dilated(x, k, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))


def test_a_kernel_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 3\), is larger than images of \(2, 8\)"):
        ours((1, 1), "VALID")(*draw((2, 8)))
