"""A network that compiles fast, for runs in which the network does not matter."""

import os
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vasso_jax.models.batch_norm import BatchNorm
from vasso_jax.models.layers import conv

# What picks it in a config.
NAME = "tests.train.networks:Small"
SMALL = f"model.name={NAME}"


class Small(nn.Module):
    """A convolution and a BatchNorm of the package, and a linear layer."""

    num_classes: int
    dtype: Any = jnp.float32
    features: int = 16
    hidden: int = 0  # width of one more layer

    @nn.compact
    def __call__(self, x, train):
        x = conv(self.features, 3, 1, self.dtype, nn.initializers.he_normal(), name="conv")(x)
        x = nn.relu(BatchNorm(name="bn")(x, train)).mean((1, 2))
        if self.hidden:
            x = nn.relu(nn.Dense(self.hidden, name="hidden")(x))
        return nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32))


class Waiting(Small):
    """Waits as long as the file is there that the environment variable WAIT_WHILE names."""

    @nn.compact
    def __call__(self, x, train):
        jax.debug.callback(_wait)
        return super().__call__(x, train)


def _wait():
    while os.path.exists(os.environ["WAIT_WHILE"]):
        time.sleep(0.1)
