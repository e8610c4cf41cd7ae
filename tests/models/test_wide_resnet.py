"""Initialisation of wide ResNets; outputs are checked in test_golden_outputs.py."""

import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax.models import WideResNet


def test_initialisation_is_the_authors():
    model = WideResNet(10, 1, 10)

    @jax.jit
    def init():
        params = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)["params"]
        return params["block3_0"]["conv2"]["kernel"], params["fc"]["bias"]

    kernel, bias = init()
    np.testing.assert_allclose(kernel.std(), (2 / (3 * 3 * 64)) ** 0.5, rtol=0.02)
    np.testing.assert_array_equal(bias, 0)
