"""Errors of directions against closed forms, on gradients that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from tests.sharpness.small_losses import classification, examples, weights
from vasso_jax.optim import suppress_variance
from vasso_jax.sharpness import measure_directions, minibatch_gradients, sam_direction

SIZE, STREAMS, STEPS = 200, 8, 400
SIGMA = 0.5  # standard deviation of a coordinate's noise
THETAS = (0.9, 0.4, 0.2)
BURNT_IN = slice(50, None)  # 0.8 ** 50 of the start is left


def measure(direction, full_at, noise=SIGMA, streams=STREAMS, steps=STEPS):
    """Errors where the gradient at step i is full_at(i) and each stream adds Gaussian noise."""

    def gradients_at(i):
        key = jax.random.fold_in(jax.random.key(0), i)
        full = full_at(i)
        return {"a": full + noise * jax.random.normal(key, (streams, SIZE))}, full

    errors = jax.jit(lambda: measure_directions({"d": direction}, gradients_at, steps))()
    return errors["a"]["d"]


def constant(i):
    return jnp.full(SIZE, 0.3)


def drifting(i):
    return 0.1 * i.astype(jnp.float32) * jnp.ones(SIZE)


def standard_error(series):
    """Of a correlated series' mean over steps [T, S]: taken over the independent streams."""
    return np.std(series.mean(axis=0), ddof=1) / np.sqrt(series.shape[1])


@pytest.mark.slow
@pytest.mark.parametrize("theta", THETAS)
def test_the_average_of_a_constant_gradient_has_theta_over_2_minus_theta_of_its_variance(theta):
    errors = measure(suppress_variance(theta), constant)
    squared_error = np.asarray(errors.squared_error[BURNT_IN], np.float64)
    ratio = squared_error / (SIZE * SIGMA**2)
    assert abs(ratio.mean() - theta / (2 - theta)) < 4 * standard_error(ratio)
    assert standard_error(ratio) < 0.02 * theta
    # It has no bias, and its estimate none either.
    variance = errors.variance[BURNT_IN].mean()
    assert abs(errors.bias[BURNT_IN].mean()) < 0.02 * variance
    np.testing.assert_allclose(variance, squared_error.mean(), rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("theta", THETAS)
def test_successive_averages_of_noise_have_the_cosine_1_minus_theta(theta):
    # E<d_t, d_{t-1}> = (1 - theta) E||d_{t-1}||^2: the new noise is independent of d_{t-1}.
    errors = measure(suppress_variance(theta), lambda i: jnp.zeros(SIZE))
    cosine = np.asarray(errors.successive_cosine[BURNT_IN], np.float64)
    assert abs(cosine.mean() - (1 - theta)) < 4 * standard_error(cosine) + 1 / SIZE


@pytest.mark.parametrize("theta", [1.0, *THETAS])
def test_cosines_with_a_constant_gradient_below_the_noise(theta):
    direction = suppress_variance(theta) if theta < 1 else optax.identity()
    errors = measure(direction, constant)
    signal, noise = SIZE * 0.3**2, SIZE * SIGMA**2 * theta / (2 - theta)
    successive = (signal + (1 - theta) * noise) / (signal + noise)
    # Of means, where the mean of the cosine is meant: close as the coordinates are many.
    np.testing.assert_allclose(errors.successive_cosine[BURNT_IN].mean(), successive, atol=2 / SIZE)
    with_full = np.sqrt(signal / (signal + noise))
    np.testing.assert_allclose(errors.cosine[BURNT_IN].mean(), with_full, atol=2 / SIZE)


@pytest.mark.slow
@pytest.mark.parametrize("theta", THETAS)
def test_the_average_of_a_drifting_gradient_lags_by_1_minus_theta_over_theta_steps(theta):
    errors = measure(suppress_variance(theta), drifting)
    bias = ((1 - theta) / theta) ** 2 * SIZE * 0.1**2
    variance = SIZE * SIGMA**2 * theta / (2 - theta)
    np.testing.assert_allclose(errors.variance[BURNT_IN].mean(), variance, rtol=0.03)
    np.testing.assert_allclose(errors.bias[BURNT_IN].mean(), bias, rtol=0.03, atol=0.01 * variance)


def test_bias_and_variance_make_up_the_error():
    errors = measure(suppress_variance(0.4), drifting, steps=20)
    parts = errors.bias + errors.variance
    np.testing.assert_allclose(errors.squared_error.mean(axis=1), parts, rtol=1e-4)


def test_the_first_direction_is_the_first_gradient_and_has_none_before_it():
    errors = measure(suppress_variance(0.4), constant, steps=2)
    plain = measure(optax.identity(), constant, steps=2)
    np.testing.assert_allclose(errors.squared_error[0], plain.squared_error[0], rtol=1e-6)
    assert np.isnan(errors.successive_cosine[0]).all()
    assert np.isfinite(errors.successive_cosine[1]).all()


def test_a_single_stream_has_errors_but_no_variance():
    errors = measure(suppress_variance(0.4), constant, streams=1, steps=3)
    assert np.isfinite(errors.squared_error).all()
    assert np.isnan(errors.variance).all()
    assert np.isnan(errors.bias).all()


def test_groups_of_streams_and_directions_are_kept_apart():
    def gradients_at(i):
        full = jnp.ones(3)
        return {"exact": full[None], "doubled": jnp.stack([2 * full, 2 * full])}, full

    directions = {"gradient": optax.identity(), "half": optax.scale(0.5)}
    errors = measure_directions(directions, gradients_at, 2)
    found = {
        group: {name: float(e.squared_error[1, 0]) for name, e in of_group.items()}
        for group, of_group in errors.items()
    }
    assert found == {
        "exact": {"gradient": 0.0, "half": 0.75},
        "doubled": {"gradient": 3.0, "half": 0.0},
    }


def test_minibatches_of_an_objective_scatter_about_its_gradient():
    objective, w = classification(examples(13)), weights()  # batches of 8 and 5 examples
    gradients_at = minibatch_gradients(objective, w, streams=32, seed=1)

    def measured():
        streams, _ = gradients_at(jnp.int32(3))
        return streams, measure_directions({"SAM": optax.identity()}, gradients_at, steps=10)

    streams, errors = jax.jit(measured)()
    errors = errors["independent"]["SAM"]
    full, *batches = (ravel_pytree(sam_direction(objective, w, i))[0] for i in (None, 0, 1))
    np.testing.assert_allclose(errors.squared_norm, np.square(full).sum(), rtol=1e-4)
    distances = [np.abs(streams["independent"] - batch).max(axis=1) for batch in batches]
    np.testing.assert_allclose(np.min(distances, axis=0), 0, atol=1e-5)
    assert np.max(distances, axis=1).min() > 0.1  # both are there
    # The variance of the two batches about their mean, by their examples.
    spread = [np.square(batch - full).sum() for batch in batches]
    variance = np.average(spread, weights=[8, 5])
    np.testing.assert_allclose(errors.variance.mean(), variance, rtol=0.1)
    assert abs(errors.bias.mean()) < 0.05 * variance
    with pytest.raises(ValueError, match="not finite"):
        minibatch_gradients(objective, w | {"w1": w["w1"] * np.nan}, streams=2)


def test_numbers_of_streams_and_steps_are_positive():
    with pytest.raises(ValueError, match="streams must be an integer of at least 1, got 0"):
        minibatch_gradients(classification(), weights(), streams=0)
    with pytest.raises(ValueError, match="steps must be an integer of at least 1, got 0"):
        measure(optax.identity(), constant, steps=0)
