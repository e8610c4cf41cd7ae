"""The mean loss over a data set: every example once, whatever the batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial

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
    ],
)
def test_wrong_data_are_refused(data, batch_size, message):
    with pytest.raises(ValueError, match=message):
        mean_loss(outputs, squared, data, batch_size)
