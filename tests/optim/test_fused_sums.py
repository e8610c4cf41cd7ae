"""Sums that XLA:CPU fuses with a matrix product, which some versions of jaxlib compute wrongly.

jaxlib 0.10.2 and 0.12.0.1 return garbage, often NaN or 1e30, for a sum over a product x @ c whose
right factor is one number throughout, if nothing else uses the product. A gradient can be such a
product. The steps of the optimizers are right nevertheless, because they use every gradient more
than once: the product is then computed by itself. jaxlib 0.10.2 also gets the last rows of some
sums over mapped matrix-vector products wrong (jax issue 39103). `docs/optimizers.md` has the flag
that helps, which leaves reductions to XLA's own code.
"""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax
import pytest

from tests.optim.problems import BASES, REUSING, every_kind
from vasso_jax import optim

FLAG = "--xla_cpu_experimental_ynn_fusion_type=-reduce"
# The same for one program: the default of that option, without its LIBRARY_FUSION_TYPE_REDUCE.
OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
    )
}

# Large enough to be fused.
FEATURES, EXAMPLES, OUTPUTS = 1000, 16, 8
STEPS, RATE, RHO = 3, 0.1, 0.1  # as in RECIPES, and a base of plain SGD


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mean_output(w, x):
    """Of a linear network; x has a row per feature, so the gradient is x @ (one number)."""
    return jnp.mean(x.T @ w)


# Each returns a function, its arguments, and its value as NumPy computes it in float64.
def sum_of_product():
    x, c = normal(0, FEATURES, EXAMPLES), np.float32(1.3)
    wanted = OUTPUTS * np.sum((c * x.sum(1, dtype=np.float64)) ** 2)
    return lambda x, c: jnp.sum((x @ jnp.full((EXAMPLES, OUTPUTS), c)) ** 2), (x, c), wanted


def norm_of_gradient():
    x, w = normal(0, FEATURES, EXAMPLES), np.ones((FEATURES, OUTPUTS), np.float32)
    wanted = np.sqrt(np.sum(x.mean(1, dtype=np.float64) ** 2) / OUTPUTS)
    return lambda w, x: optax.tree.norm(jax.grad(mean_output)(w, x)), (w, x), wanted


def mapped_products():
    x, m = normal(0, 32_770, 3), normal(1, 3, 3)
    wanted = np.sum((x.astype(np.float64) @ m.T) ** 2, axis=1)
    return lambda x, m: jax.vmap(lambda row: jnp.sum((m @ row) ** 2))(x), (x, m), wanted


PATTERNS = [sum_of_product, norm_of_gradient, mapped_products]


def is_right(pattern, options=None):
    function, arguments, wanted = pattern()
    found = jax.jit(function, compiler_options=options)(*arguments)
    return np.allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_option_is_right_where_the_installed_jaxlib_is_wrong(pattern):
    # Passes where the sums are right. Once that is so on all supported versions, the pitfall in
    # docs/optimizers.md can go.
    if is_right(pattern):
        return
    assert is_right(pattern, OPTIONS)
    pytest.xfail(f"jaxlib {jaxlib.__version__} computes this sum wrongly")


@pytest.mark.slow
def test_the_flag_of_the_documents_is_right():
    if all(map(is_right, PATTERNS)):
        pytest.skip(f"jaxlib {jaxlib.__version__} computes all of these sums rightly without it")
    program = "from tests.optim.test_fused_sums import *; print(*map(is_right, PATTERNS))"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["True"] * len(PATTERNS)


def loss(params, i, x):
    """Its gradient is a product of the wrong kind for w; what v does depends on both norms."""
    return mean_output(params["w"], x) + jnp.sum(params["v"] ** 2) / 2


def run(recipe, x, v):
    """The parameters and the optimizer's report after some steps."""
    tx = REUSING[recipe](BASES["sgd"]())
    params = {"w": jnp.zeros((len(x), OUTPUTS)), "v": jnp.asarray(v)}
    state = tx.init(params)

    @jax.jit
    def step(params, state, x):  # x is no constant, or its products would be computed beforehand
        passes, updates, state = optim.value_and_update(loss, tx)(params, state, x)
        return passes, optax.apply_updates(params, updates), state

    for _ in range(STEPS):
        passes, params, state = step(params, state, x)
    return params, passes.perturbation_norm, passes.cosine


def stacked(function):
    """As jax.vmap, but one after the other."""
    return lambda rows: jax.tree.map(lambda *a: np.stack(a), *map(function, rows))


def assert_close(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "theta"), [("sam", 1.0), ("vasso", 0.4)])
@pytest.mark.parametrize("mapped", [False, True])
def test_steps_are_those_of_numpy(recipe, theta, mapped):
    x, v = normal(0, FEATURES, EXAMPLES), normal(1, 2, 10)
    runs = jax.vmap if mapped else stacked
    found = runs(lambda v: run(recipe, x, v))(v)

    def expected(v):
        gw = np.repeat(x.mean(1, keepdims=True, dtype=np.float64) / OUTPUTS, OUTPUTS, axis=1)
        w, v = np.zeros_like(gw), v.astype(np.float64)
        dv = v
        for _ in range(STEPS):
            dv = (1 - theta) * dv + theta * v  # w's gradient never changes, nor does its average
            norm = np.sqrt(np.sum(gw**2) + np.sum(dv**2))
            clean = np.sqrt(np.sum(gw**2) + np.sum(v**2))
            cosine = (np.sum(gw**2) + np.sum(v * dv)) / (norm * clean)
            w, v = w - RATE * gw, v - RATE * (v + RHO * dv / norm)
        return {"w": w, "v": v}, RHO, cosine

    assert_close(found, stacked(expected)(v))


@pytest.mark.weekly
@every_kind
def test_steps_are_those_of_single_operations(recipe):
    x, v = normal(0, FEATURES, EXAMPLES), normal(1, 10)
    found = run(recipe, x, v)
    with jax.enable_x64(True), jax.disable_jit():
        wanted = run(recipe, x.astype(np.float64), v.astype(np.float64))
    assert_close(found, wanted)
