"""Descent rules and GSAM's schedule of rho."""

import hypothesis.extra.numpy as hnp
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vasso_jax import optim

vectors = hnp.arrays(np.float32, 4, elements=st.floats(-10, 10, width=32, allow_subnormal=False))


@settings(max_examples=50)
@given(vectors, vectors, st.floats(0, 2))
def test_the_gap_is_taken_out_orthogonally(clean, perturbed, alpha):
    updates = np.asarray(optim.surrogate_gap(alpha)(jnp.asarray(clean), jnp.asarray(perturbed)))
    unit = perturbed.astype(np.float64)
    norm = np.linalg.norm(unit)
    if norm < 1e-10:  # whose square float32 does not hold
        return
    unit /= norm
    gap = clean - (clean @ unit) * unit
    np.testing.assert_allclose(updates, perturbed - alpha * gap, rtol=1e-4, atol=1e-4)


def test_rho_is_linear_in_the_learning_rate():
    lr = optax.linear_schedule(0.4, 0.1, 3)
    rho = optim.rho_tied_to_lr(lr, rho_max=1.0, rho_min=0.2, lr_max=0.4, lr_min=0.1)
    np.testing.assert_allclose([rho(t) for t in range(4)], [1, 0.2 + 1.6 / 3, 0.2 + 0.8 / 3, 0.2])


def test_rho_is_never_negative():
    # A warm-up from zero starts below lr_min.
    warmup = optax.linear_schedule(0.0, 0.4, 4)
    rho = optim.rho_tied_to_lr(warmup, rho_max=1.0, rho_min=0.1, lr_max=0.4, lr_min=0.2)
    assert rho(0) == 0
    np.testing.assert_allclose(rho(4), 1.0)


def test_a_constant_learning_rate_gives_rho_max():
    assert optim.rho_tied_to_lr(0.1, rho_max=0.3, lr_max=0.1, lr_min=0.1)(0) == np.float32(0.3)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"rho_max": -1.0, "lr_max": 1.0}, "rho_max"),
        ({"rho_max": 1.0, "lr_max": 1.0, "rho_min": -1.0}, "rho_min"),
        ({"rho_max": 0.1, "lr_max": 1.0, "rho_min": 0.5}, "rho_max"),
        ({"rho_max": 1.0, "lr_max": 0.1, "lr_min": 0.2}, "lr_max"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, name):
    with pytest.raises(ValueError, match=f"{name} must be a number >="):
        optim.rho_tied_to_lr(0.1, **arguments)


def test_alpha_out_of_range_is_refused():
    for make in (
        lambda: optim.surrogate_gap(-0.1),
        lambda: optim.gsam(optax.sgd(0.1), alpha=-0.1),
        lambda: optim.looksam(optax.sgd(0.1), alpha=-0.1),
    ):
        with pytest.raises(ValueError, match="alpha must be a number >= 0"):
            make()


def test_what_takes_no_schedule_says_so():
    for make in (
        lambda schedule: optim.gsam(optax.sgd(0.1), alpha=schedule),
        lambda schedule: optim.asam(optax.sgd(0.1), eta=schedule),
        lambda schedule: optim.ssam(optax.sgd(0.1), density=schedule),
    ):
        with pytest.raises(ValueError, match=r"must be a number [^s]*, got <function"):
            make(optax.constant_schedule(0.1))
