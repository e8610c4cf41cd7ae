"""The names of the networks."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

from vasso_jax.models.pyramidnet import PyramidNet
from vasso_jax.models.resnet import ResNet
from vasso_jax.models.vgg import VGG
from vasso_jax.models.vit import ViT
from vasso_jax.models.wide_resnet import WideResNet
from vasso_jax.names import check_choice, import_object, is_own

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": partial(ResNet, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, (3, 4, 6, 3)),
    "resnet50": partial(ResNet, (3, 4, 6, 3), bottleneck=True),
    "resnet101": partial(ResNet, (3, 4, 23, 3), bottleneck=True),
    "resnet152": partial(ResNet, (3, 8, 36, 3), bottleneck=True),
    "resnet18_imagenet": partial(ResNet, (2, 2, 2, 2), imagenet=True),
    "resnet34_imagenet": partial(ResNet, (3, 4, 6, 3), imagenet=True),
    "resnet50_imagenet": partial(ResNet, (3, 4, 6, 3), bottleneck=True, imagenet=True),
    "resnet101_imagenet": partial(ResNet, (3, 4, 23, 3), bottleneck=True, imagenet=True),
    "resnet152_imagenet": partial(ResNet, (3, 8, 36, 3), bottleneck=True, imagenet=True),
    "wrn28_10": partial(WideResNet, 28, 10),
    "wrn34_10": partial(WideResNet, 34, 10),
    "wrn16_4": partial(WideResNet, 16, 4),
    "wrn10_1": partial(WideResNet, 10, 1),
    "vgg11_bn": partial(VGG, (1, 1, 2, 2, 2)),
    "vgg13_bn": partial(VGG, (2, 2, 2, 2, 2)),
    "vgg16_bn": partial(VGG, (2, 2, 3, 3, 3)),
    "vgg19_bn": partial(VGG, (2, 2, 4, 4, 4)),
    "pyramidnet110": partial(PyramidNet, 110, 270),
    "vit_s32": partial(ViT, 32, width=384, depth=12, heads=6),
    "vit_s16": partial(ViT, 16, width=384, depth=12, heads=6),
    "vit_b16": partial(ViT, 16, width=768, depth=12, heads=12),
}


def create(name: str, num_classes: int, **fields: Any) -> nn.Module:
    """The network called `name`.

    Args:
        name: see `constructor`.
        num_classes: size of the last layer.
        fields: other attributes of the network, such as `dtype` (of the arithmetic; parameters and
            statistics stay float32).

    Raises:
        ValueError: there is no network of that name; the message has the nearest known one.
    """
    return constructor(name)(num_classes=num_classes, **fields)


def constructor(name: str) -> Callable[..., nn.Module]:
    """The function that makes the network `name` from `num_classes` and its other attributes.

    Args:
        name: one of NETWORKS: ResNets for small images or (with `_imagenet`) in torchvision's form,
            VGG-BN, PyramidNet-110 with alpha 270, ViT. Or `wrnDEPTH_WIDTH` of any depth and width,
            such as `wrn22_8`, or `pyramidnetDEPTH_ALPHA`, such as `pyramidnet110_84`. Or
            `pkg.module:Name` for a Flax Linen module of your own.

    Raises:
        ValueError: there is no network of that name; the message has the nearest known one.
    """
    if is_own(name, "model.name"):
        return import_object("model", name)
    if match := re.fullmatch(r"(wrn|pyramidnet)(\d+)_(\d+)", name):
        depth, widening = int(match[2]), int(match[3])
        if match[1] == "wrn":
            _check_size(name, "a wide ResNet", depth, 4, "width", widening)
            return partial(WideResNet, depth, widening)
        _check_size(name, "a PyramidNet", depth, 2, "alpha", widening)
        return partial(PyramidNet, depth, widening)
    more = ", any wrnDEPTH_WIDTH or pyramidnetDEPTH_ALPHA, and your own as pkg.module:Name"
    check_choice("model", name, list(NETWORKS), more)
    return NETWORKS[name]


def _check_size(name: str, kind: str, depth: int, extra: int, field: str, widening: int) -> None:
    if depth < 6 + extra or depth % 6 != extra or widening < 1:
        depths = ", ".join(str(6 * n + extra) for n in range(1, 5))
        raise ValueError(
            f"{name}: the depth of {kind} is 6 n + {extra} ({depths}, ...) and its {field} at "
            "least 1"
        )
