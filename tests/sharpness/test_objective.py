"""The mean loss over a data set: every example once, whatever the batches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

from tests.sharpness import small_losses
from vasso_jax import sharpness
from vasso_jax.sharpness.objective import mean_loss


def outputs(params, batch):
    return jnp.tanh(batch["x"] @ params["w"]) + params["b"]


def squared(outputs, batch):
    return jnp.square(outputs - batch["y"]).sum(axis=-1)


def problem(examples, seed=0):
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}
    data = {"x": rng.normal(size=(examples, 3)), "y": rng.normal(size=(examples, 2))}
    return jax.tree.map(lambda x: x.astype(np.float32), (params, data))


@pytest.mark.slow
@settings(deadline=None, max_examples=6)
@given(examples=st.integers(1, 9), batch_size=st.integers(1, 11))
def test_every_example_counts_once(examples, batch_size):
    params, data = problem(examples)
    loss, grads = mean_loss(outputs, squared, data, batch_size).value_and_grad(params)
    expected, slope = jax.value_and_grad(lambda p: squared(outputs(p, data), data).mean())(params)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(grads["w"], slope["w"], rtol=1e-4, atol=1e-5)
    value = mean_loss(outputs, squared, data, batch_size).value(params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_to_batch_statistics_the_copies_in_the_last_batch_do_matter():
    params, data = problem(5)

    def centred(params, batch):
        found = outputs(params, batch)
        return found - found.mean(axis=0)

    def loss(rows):
        part = {name: x[np.array(rows)] for name, x in data.items()}
        return squared(centred(params, part), part)

    # Batches of 3, of which the last has two examples, and the first of them again.
    found = float(mean_loss(centred, squared, data, 3).value(params))
    filled = float((loss([0, 1, 2]).sum() + loss([3, 4, 3])[:2].sum()) / 5)
    np.testing.assert_allclose(found, filled, rtol=1e-5)
    assert not np.isclose(found, float((loss([0, 1, 2]).sum() + loss([3, 4]).sum()) / 5), rtol=1e-3)


def test_one_program_serves_other_data_and_other_bound_arrays():
    traces = []

    def shifted(shift, params, batch):
        traces.append(1)
        return outputs(params, batch) + shift

    values = []
    for seed in range(3):
        params, data = problem(4, seed)
        objective = mean_loss(Partial(shifted, jnp.float32(seed)), squared, data, 2)
        values.append(float(objective.value(params)))
    first = len(traces)
    params, data = problem(4, 7)
    mean_loss(Partial(shifted, jnp.float32(7)), squared, data, 2).value(params)
    assert len(traces) == first
    assert len(set(values)) == 3


@pytest.mark.parametrize(
    ("data", "batch_size", "message"),
    [
        ({"x": np.zeros((0, 3))}, 2, "at least 1"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(3)}, 2, "same number of examples"),
        ({"x": np.zeros((2, 3))}, 0, "positive integer"),
        ({"x": np.zeros((2, 3))}, 1.5, "positive integer"),
        ({"x": np.zeros((2, 3))}, True, "positive integer"),
        ([[1.0, 2.0], [3.0]], 1, r"data\[0\]\[0\] must be an array of numbers, .* got a float"),
        ({"x": np.zeros((2, 3)), "name": "a"}, 1, r"data\['name'\] must be .* got a str"),
        ({"x": np.float32(1)}, 1, r"data\['x'\] must be .* got float32 of shape \(\)"),
        ({"x": np.array(["a", "b"])}, 1, r"must be an array of numbers, .* of shape \(2,\)"),
        (jax.random.split(jax.random.key(0), 2), 1, r"data must be an array of numbers"),
    ],
)
def test_wrong_data_are_refused(data, batch_size, message):
    with pytest.raises(ValueError, match=message):
        mean_loss(outputs, squared, data, batch_size)


def measured_at(params):
    """Calls of all that moves parameters, or differentiates in them."""
    loss, distances = small_losses.classification(), [0.0, 0.001]
    moved = jax.tree.map(lambda w: w + 1, params)
    third = params | {"w1": moved["w1"]}
    return {
        "hessian": lambda: sharpness.hessian(loss, params),
        "worst": lambda: sharpness.worst_case(loss, params, 0.001, "linf", adaptive=True),
        "average": lambda: sharpness.average_case(loss, params, 0.001),
        "first order": lambda: sharpness.first_order(loss, params, 0.001),
        "sam": lambda: sharpness.sam_direction(loss, params),
        "averaged": lambda: sharpness.averaged_direction(loss, params, optax.identity(), 1),
        "along": lambda: sharpness.along(loss, params, moved, distances),
        "random": lambda: sharpness.along_random(loss, params, distances),
        "streams": lambda: sharpness.minibatch_gradients(loss, params, 2),
        "filters": lambda: sharpness.filter_normalized(params, 0),
        "line": lambda: sharpness.line(loss, params, moved, distances),
        "interpolation": lambda: sharpness.interpolation(loss, params, moved, distances),
        "surface": lambda: sharpness.surface(loss, params, (moved, moved), [0.0], [0.0]),
        "plane": lambda: sharpness.plane(loss, (params, moved, third)),
    }


@pytest.mark.parametrize("name", measured_at(small_losses.weights()))
def test_parameters_of_low_precision_or_not_finite_are_refused_everywhere(name):
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), small_losses.weights())
    with pytest.raises(ValueError, match="must be float32 or float64, got bfloat16"):
        measured_at(half)[name]()
    broken = small_losses.weights() | {"b1": jnp.full(8, jnp.nan)}
    with pytest.raises(ValueError, match=r"(\['b1'\] are not|must be) finite"):
        measured_at(broken)[name]()


@pytest.mark.parametrize("name", measured_at(small_losses.weights()))
def test_within_jit_and_grad_every_measurement_says_where_to_go(name):
    params = small_losses.weights()
    for call in (
        lambda: jax.jit(lambda: measured_at(params)[name]())(),
        lambda: jax.jit(lambda p: measured_at(p)[name]())(params),
        lambda: jax.grad(lambda p: measured_at(p)[name]())(params),
    ):
        with pytest.raises(ValueError, match="call it outside of them"):
            call()


@pytest.mark.parametrize(
    "measure",
    [
        sharpness.eigenvalues,
        lambda operator: sharpness.trace(operator, 4),
        lambda operator: sharpness.spectral_density(operator, 1, 2),
        lambda operator: sharpness.mean_loss(outputs, squared, {"x": operator.chosen["b1"]}, 1),
        lambda operator: sharpness.line(
            operator.objective,
            small_losses.weights(),
            small_losses.weights(),
            operator.chosen["b1"],
        ),
    ],
)
def test_within_jit_traced_operators_data_and_positions_are_refused(measure):
    operator = sharpness.hessian(small_losses.classification(), small_losses.weights())
    with pytest.raises(ValueError, match="call it outside of them"):
        jax.jit(measure)(operator)


def test_a_label_without_a_logit_is_named_as_a_cause():
    data = small_losses.examples()
    data["y"][3] = 4
    with pytest.raises(ValueError, match=r"loss is nan.* labels that are not from 0 to the number"):
        sharpness.first_order(small_losses.classification(data), small_losses.weights(), 0.1)


def test_what_a_mask_leaves_out_may_be_of_low_precision():
    params = small_losses.weights()
    params["b1"] = params["b1"].astype(jnp.bfloat16)
    mask = {"w1": True, "b1": False, "w2": True}
    assert sharpness.hessian(small_losses.classification(), params, mask).size == 56


PROGRAMS = {
    "value": lambda loss, w: loss.value(w),
    "gradient": lambda loss, w: loss.value_and_grad(w),
    "product": lambda loss, w: sharpness.hessian(loss, w).product(w),
    "density": lambda loss, w: sharpness.spectral_density(sharpness.hessian(loss, w), 1, 2),
    "ball": lambda loss, w: sharpness.first_order(loss, w, 0.1),
    "line": lambda loss, w: sharpness.line(loss, w, w, [0.0]),
    "directions": lambda loss, w: sharpness.measure_directions(
        {}, sharpness.minibatch_gradients(loss, w, streams=2), steps=1
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=() if x in ("value", "product") else pytest.mark.slow)
        for x in PROGRAMS
    ],
)
def test_every_program_has_the_full_precision_of_float32(name):
    """On a CPU it makes no difference, so the setting is looked at where the loss is traced."""
    seen = set()

    def outputs(params, batch):
        seen.add(jax.config.jax_default_matmul_precision)
        return small_losses.network(params, batch["x"])

    loss = mean_loss(outputs, small_losses.cross_entropy, small_losses.examples(), 8)
    PROGRAMS[name](loss, small_losses.weights())
    assert seen == {"highest"}


@pytest.mark.parametrize(
    "losses",
    [
        lambda outputs, batch: squared(outputs, batch).mean(),
        lambda outputs, batch: squared(outputs, batch)[:, None],
        lambda outputs, batch: jnp.square(outputs - batch["y"]),
    ],
)
def test_losses_that_are_not_one_for_each_example_are_refused(losses):
    params, data = problem(4)
    with pytest.raises(ValueError, match="one loss for each example"):
        mean_loss(outputs, losses, data, 2).value(params)
