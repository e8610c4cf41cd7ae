"""Schedules by hand, and the trainer's optimizers against the authors' trajectories."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vasso_jax.train.optimizer import describe, make_base, make_optimizer, make_schedule

SCHEDULE = {
    "lr": 0.1,
    "final_lr": 0.0,
    "epochs": 10,
    "warmup_epochs": 0.0,
    "steps_per_epoch": 4,
    "milestones": (5, 8),
    "decay_factor": 0.2,
}
BASE = {
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 0.01,
    "b1": 0.9,
    "b2": 0.999,
    "eps": 1e-8,
    "clip_norm": 0.0,
}


def rates(name, steps, **changes):
    schedule = make_schedule(name, **(SCHEDULE | changes))
    return np.array([float(schedule(step)) for step in steps])


def test_cosine_falls_to_its_end_per_step():
    steps = np.arange(41)
    expected = 0.05 * (1 + np.cos(np.pi * steps / 40))
    np.testing.assert_allclose(rates("cosine", steps), expected, atol=1e-8)
    np.testing.assert_allclose(rates("cosine", [40], final_lr=0.01), 0.01, rtol=1e-6)


def test_multistep_decays_at_the_milestones():
    np.testing.assert_allclose(
        rates("multistep", [0, 19, 20, 31, 32, 39]), [0.1, 0.1, 0.02, 0.02, 0.004, 0.004], rtol=1e-6
    )


@pytest.mark.parametrize("name", ["cosine", "multistep", "constant"])
def test_warm_up_rises_linearly_and_milestones_count_from_the_start(name):
    np.testing.assert_allclose(
        rates(name, range(9), warmup_epochs=2)[:9], 0.1 * np.arange(9) / 8, rtol=1e-5
    )
    if name == "multistep":
        np.testing.assert_allclose(rates(name, [19, 20], warmup_epochs=2), [0.1, 0.02], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cosin", {}, "Did you mean cosine"),
        ("cosine", {"lr": 0.0}, "lr must be > 0"),
        ("cosine", {"final_lr": 0.2}, "final_lr"),
        ("cosine", {"warmup_epochs": 10}, "warmup_epochs"),
        ("multistep", {"milestones": (1,), "warmup_epochs": 2}, "behind the warm-up"),
    ],
)
def test_bad_schedules_are_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        make_schedule(name, **(SCHEDULE | changes))


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


@pytest.mark.parametrize("optimizer", ["sgd", "sam", "vasso"])
def test_clipping_bounds_the_perturbed_gradient_before_the_decay(optimizer):
    base = make_base("sgd", 1.0, **(BASE | {"momentum": 0.0, "weight_decay": 0.5, "clip_norm": 1}))
    tx = make_optimizer(optimizer, base, rho=0.1, theta=0.5)
    w, g = jnp.array([2.0, -1.0]), jnp.array([0.3, 0.4])
    perturbed = jnp.array([30.0, 40.0])
    updates, _ = tx.update(g, tx.init(w), w, grad_fn=lambda p, i: perturbed)
    # The clean gradient is too short to be clipped.
    clipped = g if optimizer == "sgd" else perturbed / 50
    np.testing.assert_allclose(updates, -(clipped + 0.5 * w), rtol=1e-6)


def test_optimizers_are_the_recipes():
    w = jnp.array([2.0, -1.0])
    base = make_base("sgd", 0.1, **BASE)
    norms = {
        name: optax.tree.get(
            make_optimizer(name, base, rho=0.1, theta=0.5).init(w), "perturbation_norm"
        )
        for name in ("sgd", "sam", "vasso")
    }
    assert norms["sgd"] is None
    assert norms["sam"] == norms["vasso"] == 0
    with pytest.raises(ValueError, match="Did you mean vasso"):
        make_optimizer("vaso", base, rho=0.1, theta=0.5)


def test_description_leaves_out_what_does_not_apply():
    arguments = {"rho": 0.1, "theta": 0.4, "lr": 0.05, "schedule": "cosine", "warmup_epochs": 5.0}
    arguments |= {"momentum": 0.9, "nesterov": False, "weight_decay": 1e-3, "clip_norm": 0.0}
    assert describe("vasso", "sgd", **arguments) == (
        "VaSSO (rho 0.1, theta 0.4) on sgd (lr 0.05 cosine after 5 epochs of warm-up, "
        "momentum 0.9, weight decay 0.001)"
    )
    arguments |= {"warmup_epochs": 0.0, "weight_decay": 0.0, "clip_norm": 1.0}
    assert (
        describe("sgd", "adam", **arguments) == "adam (lr 0.05 cosine, gradient norm clipped at 1)"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("weight_decay", -1), ("clip_norm", -1), ("momentum", 1.0), ("b1", -0.1), ("b2", 1.0)],
)
def test_bad_bases_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        make_base("sgd", 0.1, **(BASE | {field: value}))


def test_unknown_bases_are_refused():
    with pytest.raises(ValueError, match="Did you mean adamw"):
        make_base("adamww", 0.1, **BASE)
