"""What the tests of the optimizers share: every recipe and base, and small losses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vasso_jax import optim

RECIPES = {
    "sam": lambda base, **options: optim.sam(base, 0.1, **options),
    "vasso": lambda base, **options: optim.vasso(base, 0.1, 0.4, **options),
    "asam": lambda base, **options: optim.asam(base, 0.5, **options),
    "vasso_asam": lambda base, **options: optim.vasso_asam(base, 0.5, 0.4, **options),
    "friendly_sam": lambda base, **options: optim.friendly_sam(base, 0.1, 0.4, **options),
    "gsam": lambda base, **options: optim.gsam(base, 0.1, alpha=0.2, **options),
    "vasso_gsam": lambda base, **options: optim.vasso_gsam(base, 0.1, 0.4, alpha=0.2, **options),
    "looksam": lambda base, **options: optim.looksam(base, 0.1, look_every=2, **options),
    "ssam": lambda base, **options: optim.ssam(base, 0.1, mask_every=2, **options),
}
# With a direction that is reused, every recipe is one more transform with the same duties.
REUSING = RECIPES | {
    "vasso, reusing": lambda base, **options: optim.vasso(
        base, 0.1, 0.4, refresh_every=2, **options
    ),
    "vasso, one pass": lambda base, **options: optim.vasso(
        base, 0.1, 0.4, refresh="descent", **options
    ),
    "vasso, window": lambda base, **options: optim.vasso(base, 0.1, 0.4, active=(1, 3), **options),
    "wsam": lambda base, **options: optim.wsam(base, 0.1, gamma=0.6, decoupled=False, **options),
    "lesam": lambda base, **options: optim.lesam(base, 0.1, **options),
    "preconditioned_sam": lambda base, **options: optim.preconditioned_sam(base, 0.1, **options),
}
# Those whose clean pass can be saved.
REFRESHED = ("sam", "vasso", "asam", "vasso_asam", "friendly_sam", "ssam")
BASES = {
    "sgd": lambda: optax.sgd(0.1),
    "momentum": lambda: optax.sgd(0.02, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(0.01),
    "adamw": lambda: optax.adamw(0.01, weight_decay=0.1),
    "lion": lambda: optax.lion(0.01),
}

QUICK = ("sam", "vasso", "vasso, reusing")
# One for each kind of step and state; the others differ from these in one part.
KINDS = (*QUICK, "vasso, one pass", "vasso, window", "vasso_gsam", "looksam", "ssam")


def of_recipe(name, *more):
    """A parameter of a test."""
    marks = [] if name in QUICK else pytest.mark.slow if name in KINDS else pytest.mark.weekly
    return pytest.param(name, *more, marks=marks)


every_recipe = pytest.mark.parametrize("recipe", [of_recipe(name) for name in REUSING])
every_kind = pytest.mark.parametrize("recipe", KINDS)


def jit_counting(function):
    """(jitted, traces): `traces` gets longer by one whenever the function is traced.

    The number of compiled programs, `jitted._cache_size()`, is 0 where JAX's cache of 8,192 has
    just become full, as in a process of many tests.
    """
    traces = []

    def counting(*args):
        traces.append(args)
        return function(*args)

    return jax.jit(counting), traces


def make(recipe, base="momentum", **options):
    return REUSING[recipe](BASES[base](), **options)


def params(dtype=jnp.float32):
    """Matrix, vector, scalar, an empty leaf and a None, eight rows for eight devices."""
    rng = np.random.default_rng(0)
    return {
        "w": jnp.asarray(rng.normal(size=(8, 3)), dtype),
        "b": jnp.asarray(rng.normal(size=3), dtype),
        "scale": jnp.asarray(1.5, dtype),
        "empty": jnp.zeros((0, 2), dtype),
        "none": None,
    }


def loss(params, x):
    """A least-squares loss of a scaled linear map; x [B, 8]."""
    y = jnp.sin(jnp.arange(3, dtype=x.dtype))
    return jnp.mean((params["scale"] * (x @ params["w"]) + params["b"] - y) ** 2)


def batch(step=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(step).normal(size=(16, 8)), dtype)


def step(tx, params, state, x):
    """One step by the plain calling convention."""

    def grad_fn(params, i):
        return jax.grad(loss)(params, x)

    updates, state = tx.update(grad_fn(params, 0), state, params, grad_fn=grad_fn)
    return optax.apply_updates(params, updates), state


def run(tx, params, steps=4, dtype=jnp.float32):
    """The parameters after some jitted steps on different batches."""
    jitted = jax.jit(lambda p, s, x: step(tx, p, s, x))
    state = tx.init(params)
    for i in range(steps):
        params, state = jitted(params, state, batch(i, dtype))
    return params


def assert_close(actual, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, expected)


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def spec(tree):
    """Structure, shapes and dtypes."""
    return jax.tree.map(lambda x: (jnp.shape(x), jnp.asarray(x).dtype), tree)


def plain_loss(w, i, x):
    """For `value_and_update`."""
    return loss(w, x)


def descends(tx, steps=10, w=None):
    """Runs jitted steps, asserts that the loss falls, and returns the last passes."""
    w = params() if w is None else w
    first, state = loss(w, batch()), tx.init(w)
    one = jax.jit(optim.value_and_update(plain_loss, tx))
    for _ in range(steps):
        passes, updates, state = one(w, state, batch())
        w = optax.apply_updates(w, updates)
    assert loss(w, batch()) < first
    return passes


def without_none():
    """The parameters without None and the empty leaf, which not all of optax takes."""
    w = params()
    del w["none"], w["empty"]
    return w
