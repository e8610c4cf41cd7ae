"""What the measures of a ball refuse, with one message each."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.sharpness.small_losses import classification, of_function, quadratic, six, weights
from vasso_jax.sharpness import average_case, first_order, worst_case

MEASURES = {"worst": worst_case, "average": average_case, "first order": first_order}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("radius", "norm", "message"),
    [
        (0, "l2", "radius must be a positive number"),
        (-0.1, "l2", "radius must be a positive number"),
        (np.nan, "l2", "radius must be a positive number"),
        (True, "l2", "radius must be a positive number"),
        ("0.1", "l2", "radius must be a positive number"),
        (0.1, "L2", "norm must be one of l2, linf, got 'L2'"),
    ],
)
def test_a_ball_that_is_none_is_refused(measure, radius, norm, message):
    with pytest.raises(ValueError, match=message):
        MEASURES[measure](classification(), weights(), radius, norm)


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_not_finite_is_refused(measure):
    w = six(np.ones(6))
    with pytest.raises(ValueError, match=r"\['b'\] are not finite"):
        MEASURES[measure](quadratic(np.eye(6)), six([1, 1, 1, np.nan, 1, 1]), 0.1)
    with pytest.raises(ValueError, match="the mean loss is inf"):
        MEASURES[measure](of_function(lambda w: 1 / (w["a"] - w["a"]).sum()), w, 0.1)
    # From 1 to below 0, where the logarithm is NaN.
    with pytest.raises(ValueError, match="smaller radius than 5"):
        MEASURES[measure](of_function(lambda w: -jnp.log(w["a"]).sum()), w, 5.0)


@pytest.mark.parametrize("measure", ["worst", "first order"])
def test_a_gradient_that_is_not_finite_is_refused(measure):
    with pytest.raises(ValueError, match="its gradient must be finite"):
        MEASURES[measure](of_function(lambda w: jnp.sqrt(w["a"]).sum()), six(np.zeros(6)), 0.1)


def test_numbers_of_steps_and_samples_are_positive():
    for steps in (0, 1.5, True):
        with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
            worst_case(classification(), weights(), 0.1, steps=steps)
    with pytest.raises(ValueError, match="samples must be an integer of at least 1"):
        average_case(classification(), weights(), 0.1, samples=0)
    for measure in (worst_case, average_case):
        with pytest.raises(ValueError, match="seed must be an integer of at least 0, got 'x'"):
            measure(classification(), weights(), 0.1, seed="x")
    assert np.isnan(average_case(classification(), weights(), 0.1, samples=1).standard_error)


def test_logits_are_of_at_least_two_classes():
    with pytest.raises(ValueError, match="at least 2 classes"):
        worst_case(quadratic(np.eye(6)), six(np.ones(6)), 0.1, normalize_logits=True)


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_no_bool_is_refused(measure):
    with pytest.raises(ValueError, match="adaptive must be True or False, got 'no'"):
        MEASURES[measure](quadratic(np.eye(6)), six(np.ones(6)), 0.1, adaptive="no")


@pytest.mark.parametrize("measure", MEASURES)
def test_parameters_are_some_and_of_floats(measure):
    for params, message in (
        (weights() | {"step": jnp.arange(2)}, r"got int32 for params\['step'\]: cast it"),
        ({}, "params must have an array"),
    ):
        with pytest.raises(ValueError, match=message):
            MEASURES[measure](classification(), params, 0.1)
