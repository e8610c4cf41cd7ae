"""Initialisation of both forms of ResNet; outputs are checked in test_golden_outputs.py."""

import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax.models import ResNet


def init(pick, **kwargs):
    """What `pick` takes of the initial parameters; only that is computed."""
    model = ResNet((1, 1), 10, **kwargs)
    x = jnp.zeros((1, 8, 8, 3))
    return jax.jit(lambda: pick(model.init(jax.random.key(0), x, train=False)["params"]))()


def test_initialisation_for_small_images_is_pytorchs_default():
    kernel, bias = init(lambda p: (p["layer2_0"]["conv1"]["kernel"], p["linear"]["bias"]))
    bound = (3 * 3 * 64) ** -0.5
    assert jnp.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.02)
    assert 0 < jnp.abs(bias).max() <= 128**-0.5


def test_initialisation_of_the_imagenet_form_is_torchvisions():
    kernel = init(lambda p: p["layer1_0"]["conv3"]["kernel"], imagenet=True, bottleneck=True)
    assert kernel.shape == (1, 1, 64, 256)
    np.testing.assert_allclose(kernel.std(), (2 / 256) ** 0.5, rtol=0.02)
    assert jnp.abs(kernel).max() > 3 * kernel.std()  # normal, neither uniform nor truncated
