"""VGG's dropout, refusal and initialisation; outputs are checked in test_golden_outputs.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.models import VGG, create


@pytest.fixture(scope="module")
def variables():
    model, x = VGG((1,), 3, hidden=512), jnp.ones((2, 4, 4, 3))
    return jax.jit(lambda: model.init(jax.random.key(0), x, train=False))()


@pytest.mark.slow
def test_dropout_needs_training_and_a_key(variables):
    x = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))

    def logits(rate=0.5, train=True, **rngs):
        model = VGG((1,), 3, rate, hidden=512)
        return model.apply(variables, x, train, mutable=["batch_stats"], rngs=rngs)[0]

    one, other = jax.random.split(jax.random.key(2))
    assert not jnp.array_equal(logits(dropout=one), logits(dropout=other))
    np.testing.assert_array_equal(logits(dropout=one), logits(dropout=one))
    np.testing.assert_array_equal(logits(rate=0.0, dropout=one), logits())
    np.testing.assert_array_equal(logits(train=False, dropout=one), logits(train=False))


def test_initialisation_is_torchvisions(variables):
    params = variables["params"]
    kernel = params["features_0"]["kernel"]  # [3, 3, 3, 64]
    np.testing.assert_allclose(kernel.std(), (2 / (3 * 3 * 64)) ** 0.5, rtol=0.05)
    np.testing.assert_allclose(params["classifier_3"]["kernel"].std(), 0.01, rtol=0.02)
    np.testing.assert_array_equal(params["features_0"]["bias"], 0)
    np.testing.assert_array_equal(params["classifier_0"]["bias"], 0)


def test_too_small_images_are_refused():
    with pytest.raises(ValueError, match="at least 32 pixels per side, got 31x40"):
        create("vgg11_bn", 10).init(jax.random.key(0), jnp.zeros((1, 31, 40, 3)), train=False)
