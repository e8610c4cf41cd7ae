"""PyramidNet's widths, shortcut and initialisation; test_golden_outputs.py checks the outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.models import PyramidNet
from vasso_jax.models.pyramidnet import PyramidBlock


def test_widths_and_initialisation():
    model = PyramidNet(14, 20, 10)
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    )["params"]
    widths = [
        shapes[f"layer{i}_{j}"]["conv2"]["kernel"].shape[-1] for i in (1, 2, 3) for j in (0, 1)
    ]
    # 16 + 20 / 6, and so on, each rounded.
    assert widths == [19, 23, 26, 29, 33, 36]


@pytest.fixture(scope="module")
def block():
    """A block that halves 5x3 images of 2 channels and has 64, and its variables."""
    block = PyramidBlock(64, 2, jnp.float32)
    x = jnp.ones((1, 5, 3, 2))
    return block, jax.jit(lambda: block.init(jax.random.key(0), x, train=False))()


@pytest.mark.slow
def test_the_shortcut_averages_and_has_no_more_channels_than_the_input(block):
    block, variables = block
    x = np.random.default_rng(0).normal(size=(1, 5, 3, 2)).astype(np.float32)
    silent = jax.tree.map(jnp.zeros_like, variables["params"]["bn3"])
    variables = variables | {"params": variables["params"] | {"bn3": silent}}
    y = block.apply(variables, x, train=False)
    assert y.shape == (1, 3, 2, 64)
    np.testing.assert_allclose(y[0, 1, 0, :2], x[0, 2:4, 0:2].mean((0, 1)), rtol=1e-6)
    # What is left of an odd size is averaged over what there is.
    np.testing.assert_allclose(y[0, 1, 1, :2], x[0, 2:4, 2].mean(0), rtol=1e-6)
    np.testing.assert_allclose(y[0, 2, 1, :2], x[0, 4, 2], rtol=1e-6)
    np.testing.assert_array_equal(y[..., 2:], 0)


def test_initialisation_is_normal_by_fan_out(block):
    kernel = block[1]["params"]["conv2"]["kernel"]
    np.testing.assert_allclose(kernel.std(), (2 / (3 * 3 * 64)) ** 0.5, rtol=0.02)
