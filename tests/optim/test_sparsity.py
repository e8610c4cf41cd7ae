"""Sparse masks: how many, which, and when they change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vasso_jax.optim import adaptive_ball, sharpness_aware, sparse_mask, ssam, value_and_update


def tree(seed, sizes=(7, 50, 1)):
    keys = jax.random.split(jax.random.key(seed), len(sizes))
    return [jax.random.normal(key, (size,)) for key, size in zip(keys, sizes, strict=True)]


def flat(tree):
    return np.concatenate([np.ravel(x) for x in tree])


@functools.partial(jax.jit, static_argnums=0)
def first_update(choice, density, seed, d):
    sparse = sparse_mask(density, choice=choice, seed=seed)
    return sparse.update(d, sparse.init(d))[0]


@settings(max_examples=50)
@given(st.integers(0, 2**16), st.floats(0, 1), st.sampled_from(["fisher", "random"]))
def test_the_share_is_exact_over_all_leaves_together(seed, density, choice):
    d = tree(seed)
    kept = first_update(choice, density, seed, d)
    wanted = np.round(np.float32(density) * np.float32(58))
    assert np.count_nonzero(flat(kept)) == wanted
    if choice == "fisher":
        largest = np.sort(np.abs(flat(d)))[::-1][: int(wanted)]
        np.testing.assert_array_equal(np.sort(np.abs(flat(kept)))[::-1][: int(wanted)], largest)
    changed = flat(kept) != flat(d)
    assert np.all(flat(kept)[changed] == 0)


def masks(sparse, steps, **update):
    state = sparse.init(tree(0))
    for t in range(steps):
        _, state = sparse.update(tree(t), state, **update)
        yield flat(state.mask)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["fisher", "random"])
def test_a_mask_serves_its_number_of_steps(choice):
    served = list(masks(sparse_mask(0.5, choice=choice, every=3), 7))
    for t in range(1, 7):
        assert np.array_equal(served[t], served[t - 1]) == (t % 3 != 0)


@pytest.mark.slow
def test_random_masks_follow_from_the_seed():
    one, same, other = (
        list(masks(sparse_mask(0.5, choice="random", seed=s), 2)) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.any(one[0] != other[0])


def test_a_given_fisher_information_decides():
    sparse, d = sparse_mask(0.5), jnp.array([4.0, 3.0, 2.0, 1.0])
    kept, _ = sparse.update(d, sparse.init(d), fisher=jnp.array([0.0, 1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(kept, [0, 0, 2, 1])


def test_coordinates_without_gradient_are_never_chosen():
    sparse, d = sparse_mask(0.5), jnp.array([0.0, 0.0, 0.0, 1.0])
    kept, state = sparse.update(d, sparse.init(d))
    np.testing.assert_array_equal(state.mask, [0, 0, 0, 1])
    np.testing.assert_array_equal(kept, d)


def test_a_zero_gradient_chooses_no_mask_and_is_made_up_for():
    sparse = sparse_mask(0.5, every=10)
    _, state = sparse.update(jnp.zeros(2), sparse.init(jnp.zeros(2)))
    np.testing.assert_array_equal(state.mask, [1, 1])
    _, state = sparse.update(jnp.array([1.0, 2.0]), state)
    np.testing.assert_array_equal(state.mask, [0, 1])


def test_a_radius_that_begins_at_zero_does_not_stop_ssam():
    tx = ssam(optax.sgd(0.0), optax.linear_schedule(0.0, 0.1, 2), mask_every=100)
    w = jnp.array([1.0, 2.0])
    state = tx.init(w)
    for _ in range(3):
        passes, _, state = value_and_update(lambda w, i: jnp.sum(w**2), tx)(w, state)
    np.testing.assert_array_equal(optax.tree.get(state, "mask"), [0, 1])
    assert passes.perturbation_norm > 0


def test_the_information_is_that_of_the_clean_gradient():
    # ASAM's perturbation is largest at the first coordinate, the gradient at the second.
    gradient = sharpness_aware(optax.chain(adaptive_ball(0.5), sparse_mask(0.5)))
    w, g = jnp.array([10.0, 0.1]), jnp.array([1.0, 2.0])
    _, state = gradient.update(g, gradient.init(w), w, grad_fn=lambda p, i: p)
    np.testing.assert_array_equal(optax.tree.get(state, "mask"), [0, 1])


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["fisher", "random"])
def test_the_share_is_of_the_parameters_that_are_perturbed_at_all(choice):
    tx = ssam(optax.sgd(0.0), density=0.5, choice=choice, mask=lambda w: {"a": True, "b": False})
    w = {"a": jnp.arange(1.0, 5), "b": jnp.full(8, 9.0)}
    _, state = tx.update(w, tx.init(w), w, grad_fn=lambda p, i: p)
    mask = optax.tree.get(state, "mask")
    assert (mask["a"].sum(), mask["b"].sum()) == (2, 0)


def test_a_nan_renews_no_mask_and_is_made_up_for():
    sparse = sparse_mask(0.5, every=2)
    first, second = jnp.array([2.0, 1.0]), jnp.array([1.0, 2.0])
    _, state = sparse.update(first, sparse.init(first))
    _, state = sparse.update(first, state)
    _, state = sparse.update(first * jnp.nan, state)
    np.testing.assert_array_equal(state.mask, [1, 0])
    _, state = sparse.update(second, state)
    np.testing.assert_array_equal(state.mask, [0, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"density": 1.5}, r"density must be a number in \[0.0, 1.0\]"),
        ({"density": 0.5, "choice": "best"}, "choice must be 'fisher' or 'random'"),
        ({"density": 0.5, "every": 0}, "every must be an integer >= 1"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sparse_mask(**arguments)
