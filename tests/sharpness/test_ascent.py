"""Auto-PGD against an implementation of its own."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from tests.sharpness.small_losses import of_function
from vasso_jax.sharpness import ascent

STEPS = 20
W = np.random.default_rng(1).normal(size=4)


def waves_of(seed):
    return np.random.default_rng(seed).normal(size=(2, 5, 4)) * 3


def wavy(waves, w):
    """A loss with many maxima."""
    return jnp.sin(waves[0] @ w + waves[1, :, 0]).sum()


def numpy_apgd(waves, norm, radius, scale, start):
    """Algorithm 1 of arXiv 2003.01690 in NumPy; points are z, for w + scale * z.

    Returns the largest loss after each step, and for each checkpoint whether either condition held.
    """

    def f(z):
        return np.sin(waves[0] @ (W + scale * z) + waves[1, :, 0]).sum()

    def ascent(z):
        g = scale * (np.cos(waves[0] @ (W + scale * z) + waves[1, :, 0]) @ waves[0])
        return g / np.sqrt(g @ g) if norm == "l2" else np.sign(g)

    def project(z):
        if norm == "linf":
            return np.minimum(np.maximum(z, -radius), radius)
        length = np.sqrt(z @ z)
        return z * radius / length if length > radius else z

    marks = [math.ceil(p * STEPS / 100) for p in (0, 22, 41, 57, 70, 80, 87, 93, 99)]
    eta, xs, x_max = 2 * radius, [start], np.zeros(4)
    values = [f(start)]
    f_max = f(x_max)
    best = [f_max]
    if values[0] > f_max:
        f_max, x_max = values[0], start
    etas, maxima, reasons, j = {0: eta}, {0: f_max}, [], 1
    for k in range(STEPS):
        z = project(xs[k] + eta * ascent(xs[k]))
        if k > 0:
            z = project(xs[k] + 0.75 * (z - xs[k]) + 0.25 * (xs[k] - xs[k - 1]))
        xs.append(z)
        values.append(f(z))
        if values[-1] > f_max:
            f_max, x_max = values[-1], z
        best.append(f_max)
        if k + 1 == marks[j]:
            since = marks[j - 1]
            rises = sum(values[i + 1] > values[i] for i in range(since, k + 1))
            few = rises < 0.75 * (k + 1 - since)
            still = etas[since] == eta and maxima[since] == f_max
            etas[k + 1], maxima[k + 1], j = eta, f_max, min(j + 1, len(marks) - 1)
            reasons.append((few, still))
            if few or still:
                eta, xs[k + 1], values[k + 1] = eta / 2, x_max, f_max
    return np.array(best), reasons


# Losses, by their seeds, and whether the ascent starts elsewhere than at the parameters.
CASES = [
    ("l2", 9, 1.0, False, False),
    ("l2", 2, 1.0, False, True),
    ("l2", 4, 1.0, True, True),
    ("linf", 12, 1.5, False, True),
    ("linf", 2, 1.5, True, False),
]


def expected(norm, seed, radius, adaptive, start):
    scale = np.abs(W) if adaptive else 1.0
    return numpy_apgd(waves_of(seed), norm, radius, scale, np.full(4, 0.4 * radius * start))


def test_in_the_cases_each_condition_holds_alone_and_neither_does():
    reasons = {reason for case in CASES for reason in expected(*case)[1]}
    assert {(True, False), (False, True), (False, False)} <= reasons


@pytest.mark.parametrize(("norm", "seed", "radius", "adaptive", "start"), CASES)
def test_it_is_the_published_algorithm(x64, monkeypatch, norm, seed, radius, adaptive, start):
    begin = jnp.full(4, 0.4 * radius)
    monkeypatch.setattr(ascent, "_start", lambda *args: begin)
    found, _ = expected(norm, seed, radius, adaptive, start)
    calls = []
    losses, size, _ = ascent.ascend(
        of_function(Partial(wavy, jnp.asarray(waves_of(seed)))),
        jnp.asarray(W),
        radius,
        norm,
        adaptive=adaptive,
        steps=STEPS,
        key=jax.random.key(0),
        random_start=start,
        report=lambda: calls.append(1),
    )
    np.testing.assert_allclose(losses, found, rtol=1e-9)
    assert size <= radius * (1 + 1e-12)
    assert len(calls) == STEPS + 1 + start


def test_it_looks_back_where_the_paper_says():
    # p = 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99, of 100 steps and of 20.
    assert ascent.checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert ascent.checkpoints(20) == [5, 9, 12, 14, 16, 18, 19, 20]
    assert ascent.checkpoints(1) == [1]
