"""The trainer's optimizers: first steps by hand, order of clipping and decay, refusals."""

import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.train.config.optimizer import BASES, METHODS, summary


def first_update(name, **changes):
    tx = BASES[name](0.1, **({"weight_decay": 0.01} | changes))
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


# One needs a momentum, the other a learning rate, and gives the base the clean gradient.
OTHERS = {"momentum_sam", "wsam"}


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"gsam", "vasso_gsam", *OTHERS}))
def test_clipping_bounds_the_perturbed_gradient_before_the_decay(method):
    base = BASES["sgd"](1.0, momentum=0.0, weight_decay=0.5, clip_norm=1.0)
    tx = METHODS[method](base)
    w, g = jnp.array([2.0, -1.0]), jnp.array([0.3, 0.4])
    perturbed = jnp.array([30.0, 40.0])
    updates, _ = tx.update(g, tx.init(w), w, grad_fn=lambda p, i: perturbed)
    # The clean gradient is too short to be clipped.
    clipped = g if method == "none" else perturbed / 50
    np.testing.assert_allclose(updates, -(clipped + 0.5 * w), rtol=1e-6)


SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-3}
COSINE = {"name": "cosine", "warmup_epochs": 5.0, "final_lr": 0.0}


def test_the_summary_leaves_out_what_does_not_apply(monkeypatch):
    method = {"name": "vasso", "rho": 0.1, "theta": 0.4, "mask": None}
    assert summary(method, {}, {}, SGD, COSINE) == (
        "VaSSO (rho 0.1, theta 0.4) on sgd (lr 0.05 cosine after 5 epochs of warm-up, "
        "momentum 0.9, weight decay 0.001)"
    )
    adam = {"name": "adam", "lr": 0.05, "weight_decay": 0.0, "clip_norm": 1.0}
    constant = {"name": "constant", "warmup_epochs": 0.0}
    assert (
        summary({"name": "none"}, {}, {}, adam, constant) == "adam (lr 0.05 constant, clip norm 1)"
    )
    method = {"name": "vasso_asam", "rho": 0.5, "theta": 0.0, "accumulator_dtype": "bfloat16"}
    assert summary(method, {"rho_min": 0.1}, {}, adam | {"clip_norm": 0.0}, constant) == (
        "VaSSO in ASAM's geometry (rho 0.5 to 0.1 with the learning rate, theta 0, "
        "accumulator dtype bfloat16) on adam (lr 0.05 constant)"
    )
    window = {"start_epoch": 5.0, "end_epoch": None}
    assert summary({"name": "sam", "rho": 0.1}, {}, window, adam, constant).startswith(
        "SAM (rho 0.1, epochs 5 to the end) on adam"
    )
    monkeypatch.setitem(METHODS, "linf_sam", METHODS["sam"])
    assert summary({"name": "linf_sam", "rho": 0.1}, {}, {}, adam, constant).startswith(
        "LINF-SAM (rho 0.1) on adam"
    )
    assert summary({"name": "my.module:Mine"}, {}, {}, adam, constant).startswith(
        "my.module:Mine ("
    )


@pytest.mark.parametrize(
    ("base", "field", "value"),
    [
        ("sgd", "weight_decay", -1),
        ("sgd", "weight_decay", float("nan")),
        ("adam", "clip_norm", -1),
        ("sgd", "momentum", 1.0),
        ("adam", "b1", -0.1),
        ("adamw", "b2", 1.0),
        ("adamw", "eps", 0.0),
        ("sgd", "lr", 0.0),
    ],
)
def test_bad_bases_are_refused(base, field, value):
    with pytest.raises(ValueError, match=field):
        BASES[base](**({"lr": 0.1} | {field: value}))
