"""BatchNorm against its equations, and in low precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.models import batch_norm
from vasso_jax.models.batch_norm import BatchNorm, sums_and_squares, two_sums_in_one


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


def test_batch_norm_in_bfloat16_takes_its_statistics_in_float32():
    x = jnp.asarray(np.random.default_rng(0).normal(30, 2, (64, 8, 8, 3)), jnp.bfloat16)
    variables = BatchNorm().init(jax.random.key(0), x, train=True)
    (low, moved_low), (y, moved) = (
        BatchNorm(dtype=dtype).apply(variables, x, train=True, mutable=["batch_stats"])
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), y, rtol=2**-8, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, moved_low, moved)
    flat = np.asarray(x, np.float64).reshape(-1, 3)
    np.testing.assert_allclose(moved["batch_stats"]["mean"], 0.1 * flat.mean(0), rtol=1e-5)


def test_batch_norm_takes_the_variance_about_the_running_mean():
    """The mean square minus the squared mean of x itself would be off by about 10 here."""
    x = np.random.default_rng(0).normal(1e4, 1, (64, 8, 8, 3)).astype(np.float32)
    exact = x.astype(np.float64).reshape(-1, 3)
    norm = BatchNorm(momentum=1.0)
    variables = norm.init(jax.random.key(0), x, train=True)
    for _ in range(2):  # the first one moves the running mean there
        y, moved = norm.apply(variables, x, train=True, mutable=["batch_stats"])
        variables = {**variables, **moved}
    np.testing.assert_allclose(moved["batch_stats"]["var"], exact.var(0, ddof=1), rtol=2e-6)
    np.testing.assert_allclose(np.std(np.asarray(y, np.float64), (0, 1, 2)), 1, rtol=4e-5)


def test_batch_norm_is_right_before_the_running_mean_is():
    x = np.random.default_rng(0).normal(100, 1, (64, 8, 8, 3)).astype(np.float32)
    y, _ = BatchNorm().init_with_output(jax.random.key(0), x, train=True)
    np.testing.assert_allclose(np.std(np.asarray(y, np.float64), (0, 1, 2)), 1, rtol=1e-3)


@pytest.mark.slow
def test_how_exact_the_variance_is_before_the_running_mean_is_near():
    distance, channels = 100, 64
    x = np.random.default_rng(0).normal(distance, 1, (64, 8, 8, channels)).astype(np.float32)
    norm = BatchNorm(momentum=1.0)
    variables = norm.init(jax.random.key(0), x, train=True)
    _, moved = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    exact = x.astype(np.float64).reshape(-1, channels).var(0, ddof=1)
    np.testing.assert_allclose(moved["batch_stats"]["var"], exact, rtol=4e-7 * distance**2)


def test_batch_norm_recovers_from_a_batch_that_is_not_finite():
    x = np.random.default_rng(0).normal(3, 2, (4, 4, 4, 2)).astype(np.float32)
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, train=True)
    expected, _ = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    broken = np.where(np.arange(2) == 0, np.inf, x)
    _, moved = norm.apply(variables, broken, train=True, mutable=["batch_stats"])
    y, _ = norm.apply({**variables, **moved}, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, expected, rtol=0, atol=5e-6)


def test_batch_norm_of_a_constant_is_its_bias():
    for constant in (0.0, 0.1, 300.0):
        x = np.full((4, 4, 4, 2), constant, np.float32)
        y, _ = BatchNorm().init_with_output(jax.random.key(0), x, train=True)
        assert np.all(np.abs(y) < 3e-5)


def test_the_two_sums_are_one_operation_on_gpus():
    x = np.random.default_rng(0).normal(1, 2, (3, 4, 5, 6, 7)).astype(np.float32)
    exact = x.astype(np.float64)
    sums = exact.sum((1, 2, 3)), np.square(exact).sum((1, 2, 3))
    for either in (two_sums_in_one, sums_and_squares):
        np.testing.assert_allclose(jax.vmap(either)(x), sums, rtol=2e-6)
    traced = jax.jit(sums_and_squares).trace(x)
    for platform, operations in (("cuda", 1), ("cpu", 2), ("tpu", 2)):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert program.count("stablehlo.reduce") == operations


@pytest.mark.slow
@pytest.mark.parametrize("either", [two_sums_in_one, sums_and_squares])
def test_its_derivatives_are_those_of_the_equations(either, x64, monkeypatch):
    if either is two_sums_in_one:
        # As on a GPU. Its derivative is the rule of `sums_and_squares`.
        monkeypatch.setattr(batch_norm, "_two_sums", two_sums_in_one)
    rng = np.random.default_rng(0)
    x, weights = rng.normal(2, 3, (4, 3, 2, 5)), rng.normal(size=(4, 3, 2, 5))
    scale, bias, along = rng.normal(size=5), rng.normal(size=5), rng.normal(size=(4, 3, 2, 5))
    norm = BatchNorm(dtype=jnp.float64)
    statistics = norm.init(jax.random.key(0), x, train=True)["batch_stats"]

    def ours(x, scale, bias):
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": statistics}
        y, _ = norm.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.sum(weights * jnp.sin(y))

    def equations(x, scale, bias):
        mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return jnp.sum(weights * jnp.sin((x - mean) / jnp.sqrt(var + 1e-5) * scale + bias))

    def derivatives(f):
        gradients = jax.grad(f, (0, 1, 2))
        _, product = jax.jvp(lambda x: gradients(x, scale, bias), (x,), (along,))
        return gradients(x, scale, bias), product

    for found, expected in zip(
        *(jax.tree.leaves(derivatives(f)) for f in (ours, equations)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
