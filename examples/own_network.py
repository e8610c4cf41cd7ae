"""A network of your own in the trainer: a small CNN with flax's own BatchNorm.

    python main.py --config=examples/own_network.py --config.model.width=32

The trainer calls the module as (images, train) -> logits, sets `num_classes`, and takes the other
attributes from the section `model`. (For a copy of this file in the current folder, add
--config.model.name=own_network:SmallCNN.) From Python: train(config, workdir, model=SmallCNN(10)).
"""

import flax.linen as nn
from ml_collections import ConfigDict

from vasso_jax.train.presets import digits


class SmallCNN(nn.Module):
    """Two convolutions, BatchNorm, and a linear layer.

    Attributes:
        num_classes: size of the last layer.
        width: channels of the first convolution; the second one has twice as many.
    """

    num_classes: int
    width: int = 16

    @nn.compact
    def __call__(self, x, train: bool):
        """[B, H, W, C] float32 images -> [B, num_classes] logits."""
        for features in (self.width, 2 * self.width):
            x = nn.Conv(features, (3, 3), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return nn.Dense(self.num_classes)(x.mean((1, 2)))


def get_config(method: str = "vasso") -> ConfigDict:
    config = digits(method)
    config.model = {"name": "examples.own_network:SmallCNN", "width": 16}
    config.base.lr = 0.1
    return config
