"""Orders and batches: every example where it must be, exactly as often as it must."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vasso_jax.data import epoch_order, evaluation_batch, take_batch


@pytest.mark.slow
@settings(max_examples=8)  # each is compiled
@given(st.integers(1, 50), st.integers(1, 50))
def test_an_epoch_shows_no_example_twice_and_drops_less_than_a_batch(num_examples, batch_size):
    batch_size = min(batch_size, num_examples)
    order = np.asarray(epoch_order(jax.random.key(0), num_examples, batch_size))
    assert order.shape == (num_examples // batch_size, batch_size)
    assert len(set(order.ravel())) == order.size
    assert set(order.ravel()) <= set(range(num_examples))


def test_epochs_differ_and_repeat_by_key():
    first, again, other = (epoch_order(jax.random.key(k), 100, 10) for k in (0, 0, 1))
    assert jnp.array_equal(first, again)
    assert not jnp.array_equal(first, other)


def test_batches_follow_the_order_over_epochs():
    images = jnp.arange(6, dtype=jnp.uint8).reshape(6, 1, 1, 1)
    labels = 10 * jnp.arange(6)
    order = jnp.array([[5, 0], [3, 1], [2, 4]])
    for step in (1, 4):
        x, y = take_batch(images, labels, order, jnp.int32(step))
        np.testing.assert_array_equal(x.ravel(), [3, 1])
        np.testing.assert_array_equal(y, [30, 10])


@pytest.mark.slow
@settings(max_examples=8)
@given(st.integers(1, 30), st.integers(1, 12))
def test_evaluation_counts_every_example_exactly_once(num_examples, batch_size):
    images = jnp.arange(num_examples, dtype=jnp.uint8).reshape(-1, 1, 1, 1)
    seen = []
    for start in range(0, num_examples, batch_size):
        x, y, valid = evaluation_batch(images, jnp.arange(num_examples), start, batch_size)
        assert x.shape == (batch_size, 1, 1, 1)
        np.testing.assert_array_equal(x.ravel(), y)
        seen.extend(np.asarray(y)[np.asarray(valid)])
    assert seen == list(range(num_examples))
