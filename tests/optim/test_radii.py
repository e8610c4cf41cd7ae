"""LE-SAM's radius, the ball of Adam's second moment, WSAM's weight and SAM-ON's mask, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vasso_jax import models, optim

STEPS, LR = 4, 0.1
CURVATURE = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, -0.2], [0.0, -0.2, 0.5]])
SLOPES = np.random.default_rng(0).normal(size=(STEPS, 3))
START = np.array([1.0, -2.0, 0.5])


def gradient(w, t):
    return CURVATURE @ w + SLOPES[t]


def descend(tx):
    """The iterates [STEPS, 3] in float64 of the loss with these gradients."""

    def loss(w, i, slope):
        return 0.5 * w @ CURVATURE @ w + slope @ w

    w, found = jnp.asarray(START), []
    state, one = tx.init(w), jax.jit(optim.value_and_update(loss, tx))
    for t in range(STEPS):
        passes, updates, state = one(w, state, SLOPES[t])
        w = optax.apply_updates(w, updates)
        found.append((np.asarray(w), float(passes.perturbation_norm)))
    return found


@pytest.mark.parametrize(("budget", "rho_max"), [(0.2, 0.5), (5.0, 0.3), (0.0, 0.5)])
def test_lesam_in_numpy(budget, rho_max, x64):
    w = START
    for t, (found, norm) in enumerate(descend(optim.lesam(optax.sgd(LR), budget, rho_max=rho_max))):
        g = gradient(w, t)
        rho = min(budget / np.linalg.norm(g), rho_max)
        w = w - LR * gradient(w + rho * g / np.linalg.norm(g), t)
        np.testing.assert_allclose(found, w, rtol=1e-6)
        np.testing.assert_allclose(norm, rho, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
@given(st.integers(0, 1000), st.floats(0.01, 1.0))
def test_to_first_order_the_loss_rises_by_at_most_the_budget(seed, budget):
    rng = np.random.default_rng(seed)
    g, d = (jnp.asarray(rng.normal(size=8), jnp.float32) for _ in range(2))
    ball = optim.loss_budget_ball(budget, rho_max=1e6)
    for direction, smallest in ((g, 0.999), (d, -1.0)):
        eps, _ = ball.update(direction, ball.init(g), clean=g)
        assert smallest * budget <= float(jnp.vdot(g, eps)) <= 1.001 * budget


def test_a_preconditioned_ball_in_numpy(x64):
    rho, b2, small, w, nu = 0.3, 0.9, 1e-8, START, 0.0
    for t, (found, _) in enumerate(descend(optim.preconditioned_sam(optax.sgd(LR), rho, b2=b2))):
        g = gradient(w, t)
        nu = b2 * nu + (1 - b2) * g**2
        p = np.sqrt(nu / (1 - b2 ** (t + 1))) + small
        w = w - LR * gradient(w + rho * (g / p) / np.sqrt(g @ (g / p)), t)
        np.testing.assert_allclose(found, w, rtol=1e-5)


@pytest.mark.slow
@given(st.integers(0, 1000))
def test_it_is_the_worst_case_of_its_ellipsoid(seed):
    rng, rho = np.random.default_rng(seed), 0.3
    d = jnp.asarray(rng.normal(size=6) * 10.0 ** rng.integers(-2, 2, 6), jnp.float32)
    ball = optim.preconditioned_ball(rho)
    eps, state = ball.update(d, ball.init(d))
    p = np.sqrt(np.asarray(state.nu) / 0.001) + 1e-8
    np.testing.assert_allclose(eps @ (p * eps), rho**2, rtol=1e-3)
    for _ in range(20):
        other = rng.normal(size=6)
        other *= rho / np.sqrt(other @ (p * other))
        assert float(d @ other) <= float(d @ eps) * 1.001


def test_a_bad_gradient_leaves_the_second_moment():
    ball, g = optim.preconditioned_ball(0.1), jnp.ones(2)
    _, state = ball.update(g, ball.init(g))
    for bad, options in ((g * jnp.nan, {}), (g, {"fresh": False})):
        _, after = ball.update(bad, state, **options)
        np.testing.assert_array_equal(after.nu, state.nu)
        assert after.count == 1
        assert after.step == 2


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.8])
def test_wsam_in_numpy(gamma, x64):
    weight, rho = gamma / (1 - gamma), 0.2
    coupled = optim.wsam(optax.sgd(LR, 0.9), rho, gamma=gamma, decoupled=False)
    apart = optim.wsam(optax.sgd(LR, 0.9), rho, gamma=gamma, learning_rate=lambda t: LR / (t + 1))
    for tx, is_coupled in ((coupled, True), (apart, False)):
        w, trace = START, 0.0
        for t, (found, _) in enumerate(descend(tx)):
            g = gradient(w, t)
            sharpness = weight * (gradient(w + rho * g / np.linalg.norm(g), t) - g)
            trace = 0.9 * trace + g + (sharpness if is_coupled else 0)
            w = w - LR * trace - (0 if is_coupled else LR / (t + 1) * sharpness)
            np.testing.assert_allclose(found, w, rtol=1e-5)


def test_wsam_without_sharpness_is_the_base_and_at_one_half_sam():
    for gamma, other in ((0.0, optax.sgd(LR)), (0.5, optim.sam(optax.sgd(LR), 0.2))):
        ours = descend(optim.wsam(optax.sgd(LR), 0.2, gamma=gamma, decoupled=False))
        for (found, _), (wanted, _) in zip(ours, descend(other), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.wsam(optax.sgd(0.1)), "needs learning_rate"),
        (
            lambda: optim.wsam(optax.sgd(0.1), gamma=1.0, decoupled=False),
            r"gamma .* in \[0\.0, 1\.0",
        ),
        (lambda: optim.preconditioned_sam(optax.sgd(0.1), b2=1.0), "b2 must be a number in"),
        (lambda: optim.preconditioned_sam(optax.sgd(0.1), eps=0.0), "eps must be a number"),
        (lambda: optim.sam(optax.sgd(0.1), refresh_every=2, ascent_steps=2), "cannot be combined"),
        (lambda: optim.lesam(optax.sgd(0.1), -1.0), "budget must be a number >= 0"),
        (lambda: optim.lesam(optax.sgd(0.1), rho_max=-1.0), "rho_max must be a number >= 0"),
        (
            lambda: optim.preconditioned_sam(optax.sgd(0.1), b2=2.0),
            r"b2 must be a number in \[0",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["resnet18", "wrn10_1", "vit_s32", "vgg11_bn"])
def test_the_normalisation_layers_of_our_networks(name):
    model = models.NETWORKS[name](num_classes=10)
    images = jnp.zeros((1, 224 if name == "vit_s32" else 32, 224 if name == "vit_s32" else 32, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))["params"]
    mask = optim.normalization(shapes)
    for path, (shape, inside) in jax.tree_util.tree_leaves_with_path(
        jax.tree.map(lambda s, m: (s.shape, m), shapes, mask),
        is_leaf=lambda x: isinstance(x, tuple),
    ):
        keys = [key.key for key in path]
        # What is normalised has a scale and a bias, and nothing else has a scale.
        siblings = shapes
        for key in keys[:-1]:
            siblings = siblings[key]
        assert inside == ("scale" in siblings), keys
        assert not inside or len(shape) == 1


def test_a_network_without_normalisation_is_refused():
    with pytest.raises(ValueError, match="no parameter belongs to a normalisation layer"):
        optim.normalization({"dense": jnp.zeros((2, 2))})


def test_names_that_only_look_like_normalisation_are_left_out():
    w = {
        "logit_scale": 0.0,
        "head": jnp.zeros((2, 2)),
        "subnet": {"kernel": 0.0},
        "normal_head": {"kernel": 0.0},
        "denormalizer": 0.0,
        "GroupNorm_0": {"scale": 0.0, "bias": 0.0},
        "shortcut_bn": {"weight": 0.0},
        "anything": {"scale": 0.0, "bias": 0.0},
    }
    inside = {"GroupNorm_0", "shortcut_bn", "anything"}
    for name, part in optim.normalization(w).items():
        assert all(leaf == (name in inside) for leaf in jax.tree.leaves(part)), name


def test_a_gradient_whose_square_overflows_leaves_the_second_moment():
    ball = optim.preconditioned_ball(0.5)
    _, state = ball.update(jnp.array([1e20, 1.0]), ball.init(jnp.zeros(2)))
    np.testing.assert_array_equal(state.nu, 0)


def test_a_radius_without_a_cap_and_of_tiny_gradients():
    g = jnp.array([3e-3, 4e-3])
    ball = optim.loss_budget_ball(1.0, rho_max=None)
    eps, _ = ball.update(g, ball.init(g))
    np.testing.assert_allclose(jnp.linalg.norm(eps), 200, rtol=1e-3)


def test_the_perturbation_is_not_longer_than_its_radius_where_the_momentum_is_tiny():
    tx, w = optim.momentum_sam(optax.sgd(0.1, momentum=0.9), 3.0), jnp.zeros(1_000_000)
    one, state = jax.jit(optim.value_and_update(lambda w, i: jnp.sum(w) * 1e-12, tx)), tx.init(w)
    for _ in range(2):
        passes, _, state = one(w, state)
    assert passes.perturbation_norm <= 3.01


def test_decoupled_sharpness_that_is_not_finite_is_left_out():
    def grad_fn(w, i):
        return jnp.where(w[0] > 3.0, jnp.nan, w)

    w = jnp.array([3.0, 4.0])
    tx = optim.wsam(optax.sgd(0.1), 0.05, learning_rate=0.1)
    updates, _ = tx.update(grad_fn(w, 0), tx.init(w), w, grad_fn=grad_fn)
    np.testing.assert_allclose(updates, -0.1 * w, rtol=1e-6)


def test_decoupled_sharpness_around_a_lookahead():
    w = optax.LookaheadParams.init_synced(jnp.array([3.0, 4.0]))
    tx = optim.wsam(optax.lookahead(optax.sgd(0.1), 5, 0.5), 0.5, gamma=0.5, learning_rate=0.1)
    updates, _ = tx.update(w.fast, tx.init(w), w, grad_fn=lambda p, i: p)
    np.testing.assert_allclose(updates.fast, -0.1 * 1.1 * w.fast, rtol=1e-5)
