"""Each method against its paper's equations, written out once more in NumPy (float64)."""

import functools

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vasso_jax import optim

STEPS, LR = 5, 0.1
numbers = st.floats(-2, 2, allow_subnormal=False).filter(lambda x: abs(x) > 1e-3 or x == 0)
problems = st.tuples(
    hnp.arrays(np.float64, (5, 5), elements=numbers),  # curvature of the loss
    hnp.arrays(np.float64, (STEPS, 5), elements=numbers),  # slope, another at each step
    hnp.arrays(np.float64, 5, elements=numbers),  # where it starts
    st.floats(0.01, 1.0),  # rho
    st.floats(0.0, 1.0),  # theta
    st.floats(0.0, 1.0),  # alpha
)


def unit(x):
    return x / (np.linalg.norm(x) + 1e-7)


def orthogonal(a, b):
    """The part of a orthogonal to b."""
    return a - (a @ b) / (b @ b) * b if b @ b > 0 else a


def l2(w, d, rho):
    return rho * unit(d)


def adaptive(w, d, rho):
    t = np.abs(w) + 0.01
    return rho * t * unit(t * d)


class Clean:
    def __call__(self, g, theta):
        return g


class Average:
    d = None

    def __call__(self, g, theta):
        self.d = g if self.d is None else (1 - theta) * self.d + theta * g
        return self.d


class Friendly:
    m = None

    def __call__(self, g, theta):
        if self.m is None:
            self.m = g
            return g
        self.m = (1 - theta) * self.m + theta * g
        return g - 0.7 * self.m


def descend(gradient, slopes, w, rho, theta, direction, ball, rule):
    """The iterates of plain descent with the sharpness-aware gradient."""
    iterates = []
    for slope in slopes:
        g = gradient(w, slope)
        g_p = gradient(w + ball(w, direction(g, theta), rho), slope)
        w = w - LR * rule(g, g_p)
        iterates.append(w)
    return iterates


def looksam(gradient, slopes, w, rho, alpha, k):
    iterates, g_v = [], None
    for t, slope in enumerate(slopes):
        g = gradient(w, slope)
        if t % k == 0:
            update = gradient(w + l2(w, g, rho), slope)
            g_v = orthogonal(update, g)
        else:
            size = np.linalg.norm(g_v)
            update = g + (alpha * np.linalg.norm(g) / size * g_v if size > 0 else 0)
        w = w - LR * update
        iterates.append(w)
    return iterates


BASE = optax.sgd(LR)
METHODS = {
    "sam": (lambda r, t, a: optim.sam(BASE, r), Clean, l2, False),
    "vasso": (lambda r, t, a: optim.vasso(BASE, r, t), Average, l2, False),
    "asam": (lambda r, t, a: optim.asam(BASE, r), Clean, adaptive, False),
    "vasso_asam": (lambda r, t, a: optim.vasso_asam(BASE, r, t), Average, adaptive, False),
    "friendly_sam": (
        lambda r, t, a: optim.friendly_sam(BASE, r, t, sigma=0.7),
        Friendly,
        l2,
        False,
    ),
    "gsam": (lambda r, t, a: optim.gsam(BASE, r, alpha=a), Clean, l2, True),
    "vasso_gsam": (lambda r, t, a: optim.vasso_gsam(BASE, r, t, alpha=a), Average, l2, True),
}


REFRESHED = {
    "sam": lambda r, t, k: optim.sam(BASE, r, refresh_every=k),
    "vasso": lambda r, t, k: optim.vasso(BASE, r, t, refresh_every=k),
    "asam": lambda r, t, k: optim.asam(BASE, r, refresh_every=k),
    "friendly_sam": lambda r, t, k: optim.friendly_sam(BASE, r, t, sigma=0.7, refresh_every=k),
}


def look(rho, alpha, k):
    return optim.looksam(BASE, rho, alpha=alpha, look_every=k)


def sparse(rho, density, every):
    return optim.ssam(BASE, rho, density=density, mask_every=every)


@functools.partial(jax.jit, static_argnums=0)
def trajectory(make, hyperparameters, curvature, slopes, w):
    """The iterates [STEPS, 5] of `make(*hyperparameters)`, compiled once for all their values."""
    tx = make(*hyperparameters)
    w = {"a": w[:2], "b": w[2:]}
    _, iterates = jax.lax.scan(
        lambda carry, slope: 2 * (one_step(tx, curvature, *carry, slope),), (w, tx.init(w)), slopes
    )
    return jnp.concatenate([iterates[0]["a"], iterates[0]["b"]], axis=1)


def iterate(make, hyperparameters, curvature, slopes, w):
    with jax.enable_x64(True):
        hyperparameters = [jnp.asarray(h) for h in hyperparameters]
        return np.asarray(trajectory(make, hyperparameters, curvature, slopes, w))


def one_step(tx, curvature, w, state, slope):
    def grad_fn(w, i):
        g = jnp.sin(curvature @ jnp.concatenate([w["a"], w["b"]])) + slope
        return {"a": g[:2], "b": g[2:]}

    updates, state = tx.update(grad_fn(w, 0), state, w, grad_fn=grad_fn)
    return optax.apply_updates(w, updates), state


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=100)
@given(problems)
def test_method(method, problem):
    curvature, slopes, w, rho, theta, alpha = problem
    make, direction, ball, is_gsam = METHODS[method]

    def gradient(w, slope):
        return np.sin(curvature @ w) + slope

    def rule(g, g_p):
        return g_p - alpha * orthogonal(g, g_p) if is_gsam else g_p

    expected = descend(gradient, slopes, w, rho, theta, direction(), ball, rule)
    actual = iterate(make, (rho, theta, alpha), curvature, slopes, w)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@settings(max_examples=100)
@given(problems, st.integers(1, 4))
def test_looksam(problem, k):
    curvature, slopes, w, rho, _, alpha = problem

    def gradient(w, slope):
        return np.sin(curvature @ w) + slope

    expected = looksam(gradient, slopes, w, rho, alpha, k)
    actual = iterate(look, (rho, alpha, k), curvature, slopes, w)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@settings(max_examples=100)
@given(problems, st.integers(0, 5), st.integers(1, 3))
def test_ssam_with_fisher_masks(problem, ones, every):
    curvature, slopes, w, rho, _, _ = problem

    def gradient(w, slope):
        return np.sin(curvature @ w) + slope

    masks = iter(range(STEPS))
    mask = None

    def ball(w, d, rho):
        nonlocal mask
        if next(masks) % every == 0:
            chosen = np.sort(np.argsort(-(d**2), kind="stable")[:ones])
            # Ties, and coordinates without gradient, may be chosen either way: not compared.
            ordered = np.sort(np.abs(d))[::-1]
            if 0 < ones < 5 and ordered[ones - 1] - ordered[ones] < 1e-5 * ordered[0]:
                raise StopIteration
            mask = np.isin(np.arange(5), chosen) & (d != 0)
        return mask * l2(w, d, rho)

    try:
        expected = descend(gradient, slopes, w, rho, 1.0, Clean(), ball, lambda g, g_p: g_p)
    except StopIteration:
        return
    actual = iterate(sparse, (rho, ones / 5, every), curvature, slopes, w)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@settings(max_examples=100)
@given(problems, st.integers(1, 4), st.sampled_from(sorted(REFRESHED)))
def test_a_direction_reused_for_k_steps(problem, k, method):
    curvature, slopes, w, rho, theta, _ = problem
    _, direction, ball, _ = METHODS[method]
    count, held, renewed = iter(range(STEPS)), None, direction()

    def gradient(w, slope):
        return np.sin(curvature @ w) + slope

    def every_kth(g, theta):
        nonlocal held
        if next(count) % k == 0:
            held = renewed(g, theta)
        return held

    expected = descend(gradient, slopes, w, rho, theta, every_kth, ball, lambda g, g_p: g_p)
    actual = iterate(REFRESHED[method], (rho, theta, k), curvature, slopes, w)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("theta", [0.2, 0.9])
def test_friendly_sam_takes_the_steps_of_the_authors_code_for_their_sigma(theta, x64):
    # They subtract the average as it was before the new gradient; for sigma = 1 the same direction.
    rng = np.random.default_rng(0)
    grads = rng.normal(size=(6, 4))
    ball, direction = optim.l2_ball(0.1), optim.friendly(1.0, theta)
    chain = optax.chain(direction, ball)
    state = chain.init(jnp.zeros(4))
    m = None
    for g in grads:
        d = g if m is None else g - m
        m = g if m is None else (1 - theta) * m + theta * g
        eps, state = chain.update(jnp.asarray(g), state)
        np.testing.assert_allclose(eps, 0.1 * unit(d), rtol=1e-5)


def test_gsam_without_weight_on_the_gap_and_vasso_with_theta_one_are_sam():
    w = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([0.5, 3.0, -1.0])}
    curvature, slope = jnp.eye(5) * jnp.arange(1.0, 6), jnp.ones(5)
    steps = [
        one_step(tx, curvature, w, tx.init(w), slope)[0]
        for tx in (
            optim.sam(BASE, 0.3),
            optim.gsam(BASE, 0.3, alpha=0.0),
            optim.vasso(BASE, 0.3, 1.0),
            optim.friendly_sam(BASE, 0.3, sigma=0.0),
            optim.looksam(BASE, 0.3, look_every=1),
            optim.ssam(BASE, 0.3, density=1.0),
        )
    ]
    for other in steps[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), steps[0], other)
