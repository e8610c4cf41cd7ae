"""The loss along directions, against quadratics and averages that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.sharpness.small_losses import classification, examples, quadratic, six, weights
from vasso_jax.optim import suppress_variance
from vasso_jax.sharpness import (
    along,
    along_random,
    averaged_direction,
    first_order,
    sam_direction,
)

MATRIX = np.diag([5.0, 1.0, 0.5, 2.0, 0.0, 3.0])
DISTANCES = [-0.5, 0.0, 0.5, 2.0]


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def test_along_a_direction_the_distance_is_the_norm_of_the_perturbation():
    d, w = np.array([0, 3.0, 0, 0, 0, 4.0]), np.array([1.0, 1, 0, 0, 0, 0])
    curve = along(quadratic(MATRIX), six(w), six(7 * d), DISTANCES)
    assert curve.loss == 3.0
    unit = d / 5
    expected = [0.5 * (w + t * unit) @ MATRIX @ (w + t * unit) - 3 for t in DISTANCES]
    np.testing.assert_allclose(curve.increases, [expected], atol=1e-5)
    np.testing.assert_array_equal(curve.mean, curve.increases[0])
    assert np.isnan(curve.deviation).all()
    # Integers are not rounded where they are normalised.
    whole = jax.tree.map(lambda x: x.astype(int), six(d))
    found = along(quadratic(MATRIX), six(w), whole, DISTANCES)
    np.testing.assert_allclose(found.increases, [expected], atol=1e-5)


def test_random_directions_see_the_mean_eigenvalue():
    reports = []
    curve = along_random(
        quadratic(MATRIX),
        six(np.zeros(6)),
        [0.5, 2.0],
        directions=200,
        progress=lambda *args: reports.append(args),
    )
    assert curve.increases.shape == (200, 2)
    assert reports == [(i, 400) for i in range(1, 401)]
    # E of d^T A d for d even on the sphere; four standard errors.
    expected = 0.5 * np.array([0.25, 4.0]) * np.trace(MATRIX) / 6
    error = curve.deviation / np.sqrt(200)
    assert (abs(curve.mean - expected) < 4 * error).all()
    assert (error < 0.1 * expected).all()
    np.testing.assert_allclose(curve.deviation, curve.increases.std(axis=0, ddof=1))
    # All directions differ, and each is the same at all distances.
    assert len(np.unique(curve.increases[:, 0])) == 200
    np.testing.assert_allclose(curve.increases[:, 1], 16 * curve.increases[:, 0], rtol=1e-4)


def test_along_the_gradient_lies_the_loss_of_sam():
    objective, w = classification(), weights()
    curve = along(objective, w, sam_direction(objective, w), [0.05])
    np.testing.assert_allclose(curve.increases[0], first_order(objective, w, 0.05).value, rtol=1e-4)


def test_the_gradient_of_a_batch_is_that_of_its_examples():
    data, w = examples(13), weights()
    second = jax.tree.map(lambda x: x[8:], data)
    found = sam_direction(classification(data), w, batch=1)
    np.testing.assert_allclose(
        flat(found), flat(sam_direction(classification(second), w)), rtol=1e-4, atol=1e-6
    )
    for batch in (2, -1, 1.0, True):
        with pytest.raises(ValueError, match=f"one of 0 to 1, got {batch}"):
            sam_direction(classification(data), w, batch=batch)


def test_the_averaged_direction_is_that_of_vasso():
    objective, w, theta = classification(), weights(), 0.4
    grads = [flat(sam_direction(objective, w, batch=i)) for i in (0, 1)]
    d = grads[0]
    for grad in (grads[1], grads[0]):
        d = (1 - theta) * d + theta * grad
    found = averaged_direction(objective, w, suppress_variance(theta), batches=3)
    np.testing.assert_allclose(flat(found), d, rtol=1e-4, atol=1e-6)
    last = averaged_direction(objective, w, optax.identity(), batches=2)
    np.testing.assert_allclose(flat(last), grads[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": six(np.zeros(6))}, "must not be zero"),
        ({"direction": six([np.nan] * 6)}, "direction must be finite"),
        ({"direction": {"a": jnp.zeros(2)}}, "must have the structure"),
        ({"direction": {"a": jnp.zeros(2), "b": jnp.zeros(4)}}, "must have the shapes"),
        ({"distances": []}, "at least one"),
        ({"distances": [np.inf]}, "finite numbers"),
        ({"distances": 0.5}, "list of finite numbers"),
        ({"distances": ["a"]}, "list of finite numbers"),
        ({"distances": [[0.5], [1, 2]]}, "list of finite numbers"),
        ({"params": six([np.inf] * 6)}, "are not finite"),
    ],
)
def test_what_cannot_be_measured_along_is_refused(change, message):
    good = {"params": six(np.ones(6)), "direction": six(np.ones(6)), "distances": [0.5]}
    with pytest.raises(ValueError, match=message):
        along(quadratic(MATRIX), **(good | change))


def test_numbers_of_batches_and_directions_are_positive():
    with pytest.raises(ValueError, match="batches must be an integer of at least 1"):
        averaged_direction(classification(), weights(), optax.identity(), batches=0)
    with pytest.raises(ValueError, match="directions must be an integer of at least 1"):
        along_random(classification(), weights(), [0.1], directions=0)
