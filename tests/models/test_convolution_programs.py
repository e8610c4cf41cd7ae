"""The programs of the convolution: on meshes, inside of conditionals, and by platform."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.models.convolutions import (
    assert_equal,
    curvatures,
    derived,
    draw,
    forward_mode,
    gradients,
    ours,
)


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
