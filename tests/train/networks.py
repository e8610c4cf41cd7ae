"""A network that compiles fast, for runs in which the network does not matter."""

import flax.linen as nn
import jax.numpy as jnp

from vasso_jax.models.layers import BatchNorm, conv

# What picks it in a config.
SMALL = "model.name=tests.train.networks:Small"


class Small(nn.Module):
    """A convolution and a BatchNorm of the package, and a linear layer."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train):
        x = conv(16, 3, 1, jnp.float32, nn.initializers.he_normal(), name="conv")(x)
        x = nn.relu(BatchNorm(name="bn")(x, train)).mean((1, 2))
        return nn.Dense(self.num_classes, name="head")(x)
