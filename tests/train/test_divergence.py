"""What a run cannot go on with, and what it can."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.train.tiny import SHAPE, Tiny
from vasso_jax.train.divergence import DivergenceCheck
from vasso_jax.train.errors import UsageError
from vasso_jax.train.steps.state import create_state

CHECK = DivergenceCheck({"base": {"lr": 1}, "method": {}, "schedule": {}})


@pytest.fixture(scope="module")
def sound():
    """The state of an optimizer whose numbers begin at infinity."""
    tx = optax.chain(optax.adam(1e-3), optax.contrib.reduce_on_plateau())
    state = create_state(Tiny(), tx, SHAPE, 3, 0, ema_decay=0.9)
    assert np.isinf(optax.tree.get(state.opt_state, "best_value"))
    return state


def test_a_sound_state_is_described(sound):
    arrays = CHECK.state(3, sound)
    assert arrays["params/head/bias"].shape == (3,)
    assert arrays["step"].dtype == "int32"


def filled(tree, value):
    return optax.tree.full_like(tree, value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["params", "batch_stats", "ema"])
def test_weights_statistics_and_averages_must_be_finite(sound, field, value):
    state = sound.replace(**{field: filled(getattr(sound, field), value)})
    what = "NaN" if np.isnan(value) else "infinity"
    message = rf"diverged: {field}/\S+ holds {what} at step 3. Try a smaller base.lr, in a new"
    with pytest.raises(UsageError, match=message):
        CHECK.state(3, state)


def test_of_the_optimizer_arrays_must_be_finite_and_numbers_not_nan(sound):
    mu = optax.tree.get(sound.opt_state, "mu")
    for value, what in ((np.inf, "infinity"), (np.nan, "NaN")):
        opt_state = optax.tree.set(sound.opt_state, mu=filled(mu, value))
        with pytest.raises(UsageError, match=rf"opt_state/0/0/mu/\S+ holds {what}"):
            CHECK.state(3, sound.replace(opt_state=opt_state))
    opt_state = optax.tree.set(sound.opt_state, best_value=jnp.float32(np.nan))
    with pytest.raises(UsageError, match="opt_state/1/best_value holds NaN"):
        CHECK.state(3, sound.replace(opt_state=opt_state))


def test_large_numbers_whose_sum_overflows_are_finite(sound):
    CHECK.state(3, sound.replace(params=filled(sound.params, jnp.finfo(jnp.float32).max)))


def test_a_loss_must_be_finite():
    CHECK.value(3, "the training loss", 1e30)
    with pytest.raises(UsageError, match="diverged: the training loss is nan at step 3"):
        CHECK.value(3, "the training loss", float("nan"))
