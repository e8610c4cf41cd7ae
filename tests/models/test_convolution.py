"""The convolution with written-out gradients against jax.lax's, whose gradients JAX derives."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.models.compilation import quick_compilation
from vasso_jax.models.convolution import conv_general_dilated

ORDER = ("NHWC", "HWIO", "NHWC")


def ours(strides, padding, **kwargs):
    def conv(x, k):
        return conv_general_dilated(x, k, strides, padding, dimension_numbers=ORDER, **kwargs)

    return conv


def derived(strides, padding, **kwargs):
    def conv(x, k):
        return jax.lax.conv_general_dilated(
            x, k, strides, padding, dimension_numbers=ORDER, **kwargs
        )

    return conv


def draw(image=(8, 8), window=(3, 3), dtype="float32", batch=4, channels=3, features=5):
    """Random x [batch, *image, channels] and k [*window, channels, features]."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, *image, channels))
    k = rng.normal(size=(*window, channels, features))
    return jnp.asarray(x, dtype), jnp.asarray(k, dtype)


def gradients(conv):
    """(x, k) -> (y, dx, dk) for a dy that depends on the position."""

    @jax.jit
    def of(x, k):
        y, vjp = jax.vjp(conv, x, k)
        return y, *vjp(jnp.cos(y))

    return of


def curvatures(conv):
    """(x, k) -> the Hessian of a loss times a vector, in x and in k: reverse over reverse."""

    def slope(x, k):
        grads = jax.grad(lambda x, k: jnp.sin(conv(x, k)).sum(), (0, 1))(x, k)
        return jnp.vdot(grads[0], jnp.cos(x)) + jnp.vdot(grads[1], jnp.cos(k))

    return jax.jit(jax.grad(slope, (0, 1)))


def both_orders(conv):
    return jax.jit(lambda x, k: (*gradients(conv)(x, k), *curvatures(conv)(x, k)))


def forward_mode(conv):
    """(x, k) -> tangents of y by jvp and by linearize, and the Hessian times the same vector.

    The Hessian is that of a loss. It is taken forward over reverse, and reverse over forward.
    """

    def loss(x, k):
        return jnp.sin(conv(x, k)).sum()

    @jax.jit
    def of(x, k):
        inputs, tangents = (x, k), (jnp.cos(x), jnp.cos(k))
        dy = jax.jvp(conv, inputs, tangents)[1]
        same_dy = jax.linearize(conv, *inputs)[1](*tangents)
        products = jax.jvp(jax.grad(loss, (0, 1)), inputs, tangents)[1]
        same_products = jax.grad(lambda *at: jax.jvp(loss, at, tangents)[1], (0, 1))(*inputs)
        return dy, same_dy, *products, *same_products

    return of


def assert_equal(actual, expected, tolerance):
    """Up to rounding, relative to the largest entry: the two sides may sum in different orders."""
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (1, 1)), ((0, 3), (2, 0))])
def test_gradients(size, stride, padding, x64):
    # With VALID and stride 2 the last of the 8 rows lies in no window.
    x, k = draw((8, 7), (size, size), "float64")
    args = (stride, stride), padding
    assert_equal(gradients(ours(*args))(x, k), gradients(derived(*args))(x, k), 1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((0, 3), (2, 0))])
def test_forward_mode(stride, padding, x64):
    x, k = draw((6, 5), (3, 2), "float64", batch=2)
    args = (stride, stride), padding
    with quick_compilation():
        actual, expected = (forward_mode(make(*args))(x, k) for make in (ours, derived))
    assert_equal(actual, expected, 1e-12)


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


def test_sharded_batch():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    x, k = draw(batch=8)
    of = gradients(ours((2, 2), "SAME"))
    y, dx, dk = of(
        jax.device_put(x, split), jax.device_put(k, NamedSharding(mesh, PartitionSpec()))
    )
    assert y.sharding.is_equivalent_to(split, 4)
    assert dx.sharding.is_equivalent_to(split, 4)
    assert_equal((y, dx, dk), of(x, k), 1e-5)


def test_in_shard_map_with_its_checks():
    """Gradients and Hessian-vector products, from inside and from outside."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    shared, split = PartitionSpec(), PartitionSpec("data")
    x, k = draw(batch=8)
    conv = ours((2, 2), "SAME")

    def loss(k, x):
        return jnp.sin(conv(x, k)).sum()

    def product(k, x):
        return jax.jvp(lambda k: jax.grad(loss)(k, x), (k,), (jnp.cos(k),))[1]

    def sharded(f, out_specs):
        return jax.shard_map(f, mesh=mesh, in_specs=(shared, split), out_specs=out_specs)

    grad = jax.grad(loss, (0, 1))
    expected = jax.jit(grad)(k, x)
    assert_equal(jax.jit(sharded(grad, (shared, split)))(k, x), expected, 1e-5)
    total = sharded(lambda k, x: jax.lax.psum(loss(k, x), "data"), shared)
    assert_equal(jax.jit(jax.grad(total, (0, 1)))(k, x), expected, 1e-5)
    assert_equal([jax.jit(sharded(product, shared))(k, x)], [jax.jit(product)(k, x)], 1e-5)


@pytest.mark.parametrize("of", [gradients, forward_mode])
def test_on_an_explicit_mesh(of):
    x, k = draw(batch=8)
    of = of(ours((2, 2), "SAME"))
    expected = of(x, k)
    with jax.set_mesh(jax.make_mesh((4,), ("data",))):
        split, shared = PartitionSpec("data", None, None, None), PartitionSpec(*[None] * 4)
        actual = of(jax.device_put(x, split), jax.device_put(k, shared))
    is_kernel = [a.shape == k.shape for a in actual]
    assert [a.sharding.spec for a in actual] == [shared if one else split for one in is_kernel]
    assert_equal(actual, expected, 1e-5)


@pytest.mark.parametrize("of", [gradients, curvatures, forward_mode])
def test_every_convolution_has_the_fast_order_inside_a_conditional(of):
    def saved(needed, x, k):
        f = of(ours((2, 2), "SAME"))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(f, x, k))
        return jax.lax.cond(needed, f, lambda *_: zeros, x, k)

    program = jax.jit(saved).lower(True, *draw()).compile().as_text()
    assert program.count(" convolution(") == program.count("dim_labels=b01f_01io->b01f") > 0


def test_the_program_for_the_cpu_makes_no_choice_at_run_time():
    program = gradients(ours((2, 2), "SAME")).lower(*draw()).compile().as_text()
    assert program.count(" convolution(") == 3
    assert program.count("dim_labels=b01f_01io->b01f") == 3
    assert " conditional(" not in program


@pytest.mark.parametrize("of", [gradients, forward_mode])
@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
def test_programs_for_other_platforms_have_the_derived_gradients(platform, of):
    def convolutions(conv):
        text = of(conv).trace(*draw()).lower(lowering_platforms=(platform,)).as_text()
        lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
        return sorted(line[line.index("dim_numbers") :] for line in lines)

    args = (2, 2), "SAME"
    assert convolutions(ours(*args)) == convolutions(derived(*args))


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
