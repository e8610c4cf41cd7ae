"""Networks in Flax Linen: `create(name, num_classes)`, then `model.init` and `model.apply`.

Every network takes NHWC images of any size and channel count, and `train`; it returns float32
logits and keeps its BatchNorm statistics in the `batch_stats` collection.
"""

import re
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vasso_jax.choices import check_choice
from vasso_jax.models.resnet import ResNet
from vasso_jax.models.wide_resnet import WideResNet

__all__ = ["ResNet", "WideResNet", "create"]

_RESNET_STAGES = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
_WIDE_RESNET = re.compile(r"wrn(\d+)_(\d+)")


def create(name: str, num_classes: int, dtype: Any = jnp.float32) -> nn.Module:
    """The network called `name`.

    Args:
        name: `resnet18`, `resnet34`, or `wrnDEPTH_WIDTH` such as `wrn28_10`, `wrn16_4`, `wrn10_1`.
        num_classes: size of the last layer.
        dtype: dtype of the arithmetic; parameters and statistics stay float32.

    Raises:
        ValueError: there is no network of that name; the message has the nearest known one.
    """
    if match := _WIDE_RESNET.fullmatch(name):
        depth, width = map(int, match.groups())
        if depth < 10 or depth % 6 != 4 or width < 1:
            raise ValueError(
                f"{name}: the depth of a wide ResNet is 6 n + 4 (10, 16, 22, 28, ...) and its "
                "width at least 1"
            )
        return WideResNet(depth, width, num_classes, dtype)
    known = [*_RESNET_STAGES, "wrn28_10", "wrn16_4", "wrn10_1"]
    check_choice("model", name, known, ", and any wrnDEPTH_WIDTH")
    return ResNet(_RESNET_STAGES[name], num_classes, dtype)
