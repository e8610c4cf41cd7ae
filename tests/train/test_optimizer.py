"""The trainer's optimizers: first steps by hand, order of clipping and decay, refusals."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax import optim
from vasso_jax.train.optimizer import (
    OPTIMIZERS,
    default_rho,
    describe,
    make_base,
    make_optimizer,
)

BASE = {
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.01,
    "b1": 0.9,
    "b2": 0.999,
    "eps": 1e-8,
    "clip_norm": 0.0,
}


def first_update(name, **changes):
    tx = make_base(name, 0.1, **(BASE | changes))
    w, g = jnp.array([2.0, -1.0]), jnp.array([3.0, 4.0])
    updates, _ = tx.update(g, tx.init(w), w)
    return np.asarray(updates)


def test_sgd_and_adam_add_the_decay_to_the_gradient_and_adamw_does_not():
    np.testing.assert_allclose(first_update("sgd"), [-0.302, -0.399], rtol=1e-6)
    np.testing.assert_allclose(
        first_update("sgd", nesterov=True), 1.9 * np.array([-0.302, -0.399]), rtol=1e-6
    )
    # The first step of Adam is the sign of its gradient.
    np.testing.assert_allclose(first_update("adam", weight_decay=10), [-0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(
        first_update("adamw", weight_decay=0.5), [-0.1 - 0.1, -0.1 + 0.05], rtol=5e-5
    )


@pytest.mark.parametrize("optimizer", sorted(set(OPTIMIZERS) - {"gsam", "vasso_gsam"}))
def test_clipping_bounds_the_perturbed_gradient_before_the_decay(optimizer):
    base = make_base("sgd", 1.0, **(BASE | {"momentum": 0.0, "weight_decay": 0.5, "clip_norm": 1}))
    tx = make_optimizer(optimizer, base, rho=0.1, theta=0.5)
    w, g = jnp.array([2.0, -1.0]), jnp.array([0.3, 0.4])
    perturbed = jnp.array([30.0, 40.0])
    updates, _ = tx.update(g, tx.init(w), w, grad_fn=lambda p, i: perturbed)
    # The clean gradient is too short to be clipped.
    clipped = g if optimizer == "sgd" else perturbed / 50
    np.testing.assert_allclose(updates, -(clipped + 0.5 * w), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"sgd"}))
def test_a_method_gets_what_it_has_and_its_own_defaults(name):
    w, g = jnp.array([2.0, -1.0]), jnp.array([3.0, 4.0])
    base = make_base("sgd", 0.1, **BASE)
    recipe = getattr(optim, name)
    every = {"theta": 0.5, "eta": 0.1, "sigma": 0.5, "density": 0.5, "rho": None, "alpha": None}
    known = inspect.signature(recipe).parameters
    own = {key: every[key] for key in known if every.get(key) is not None}
    updates = []
    for tx in (make_optimizer(name, base, **every), recipe(base, **own)):
        state = tx.init(w)
        for scale in (1.0, 2.0):
            result, state = tx.update(jnp.array([3.0, scale]), state, w, grad_fn=lambda p, i: p * g)
        updates.append(result)
    np.testing.assert_array_equal(*updates)


def test_unknown_optimizers_are_refused():
    with pytest.raises(ValueError, match="Did you mean vasso"):
        make_optimizer("vaso", make_base("sgd", 0.1, **BASE), rho=0.1)


def test_the_default_radius_is_the_method_s():
    assert (default_rho("sgd"), default_rho("vasso"), default_rho("asam")) == (0.0, 0.05, 0.5)


def test_description_leaves_out_what_does_not_apply():
    arguments = {"rho": 0.1, "theta": 0.4, "lr": 0.05, "schedule": "cosine", "warmup_epochs": 5.0}
    arguments |= {"momentum": 0.9, "nesterov": False, "weight_decay": 1e-3, "clip_norm": 0.0}
    assert describe("vasso", "sgd", **arguments) == (
        "VaSSO (rho 0.1, theta 0.4) on sgd (lr 0.05 cosine after 5 epochs of warm-up, "
        "momentum 0.9, weight decay 0.001)"
    )
    arguments |= {"warmup_epochs": 0.0, "weight_decay": 0.0, "clip_norm": 1.0, "rho": None}
    assert (
        describe("sgd", "adam", **arguments) == "adam (lr 0.05 cosine, gradient norm clipped at 1)"
    )
    arguments |= {"accumulator_dtype": jnp.bfloat16, "refresh_every": 5, "clip_norm": 0.0}
    assert describe("vasso_asam", "adam", **arguments) == (
        "VaSSO in ASAM's geometry (rho 0.5, theta 0.4, eta 0.01, refresh every 5, "
        "accumulator dtype bfloat16) on adam (lr 0.05 cosine)"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weight_decay", -1),
        ("clip_norm", -1),
        ("momentum", 1.0),
        ("b1", -0.1),
        ("b2", 1.0),
        ("eps", 0.0),
    ],
)
def test_bad_bases_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        make_base("sgd", 0.1, **(BASE | {field: value}))


def test_unknown_bases_are_refused():
    with pytest.raises(ValueError, match="Did you mean adamw"):
        make_base("adamww", 0.1, **BASE)
