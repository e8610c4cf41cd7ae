"""The benchmarked networks in PyTorch, with the same layers as in `vasso_jax.models`."""

import re

import torch
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 with an output four times as wide."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool):
        super().__init__()
        sizes = [(width, 3, stride), (width, 3, 1)]
        if bottleneck:
            sizes = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
        layers: list[nn.Module] = []
        channels = inputs
        for i, (outputs, size, step) in enumerate(sizes):
            layers += [_conv(channels, outputs, size, step), nn.BatchNorm2d(outputs)]
            layers += [nn.ReLU(inplace=True)] if i < len(sizes) - 1 else []
            channels = outputs
        self.body = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != channels:
            self.shortcut = nn.Sequential(
                _conv(inputs, channels, 1, stride), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet(stages: tuple[int, ...], bottleneck: bool, imagenet: bool, classes: int) -> nn.Module:
    size, stride = (7, 2) if imagenet else (3, 1)
    layers: list[nn.Module] = [_conv(3, 64, size, stride), nn.BatchNorm2d(64), nn.ReLU()]
    if imagenet:
        layers.append(nn.MaxPool2d(3, 2, 1))
    inputs, growth = 64, 4 if bottleneck else 1
    for stage, blocks in enumerate(stages):
        for block in range(blocks):
            width, stride = 64 * 2**stage, 2 if stage and not block else 1
            layers.append(ResidualBlock(inputs, width, stride, bottleneck))
            inputs = growth * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class PreActivationBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.conv1, self.conv2 = _conv(inputs, width, 3, stride), _conv(width, width, 3, 1)
        self.shortcut = _conv(inputs, width, 1, stride) if inputs != width else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm1(x))
        x = x if self.shortcut is None else self.shortcut(y)
        return x + self.conv2(torch.relu(self.norm2(self.conv1(y))))


def wide_resnet(depth: int, widening: int, classes: int) -> nn.Module:
    layers: list[nn.Module] = [_conv(3, 16, 3, 1)]
    inputs = 16
    for stage in range(3):
        for block in range((depth - 4) // 6):
            width, stride = 16 * 2**stage * widening, 2 if stage and not block else 1
            layers.append(PreActivationBlock(inputs, width, stride))
            inputs = width
    return nn.Sequential(
        *layers,
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inputs, classes),
    )


class ViT(nn.Module):
    """Plain vision transformer: pre-norm blocks, tokens averaged, linear head."""

    def __init__(self, image: int, patch: int, width: int, depth: int, heads: int, classes: int):
        super().__init__()
        self.embedding = nn.Conv2d(3, width, patch, patch)
        # Fixed numbers; their values do not affect the time.
        self.register_buffer("positions", torch.randn((image // patch) ** 2, width))
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(
            block, depth, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.blocks(x).mean(1))


def create(name: str, image_size: int, classes: int) -> nn.Module:
    """The network that `vasso_jax.models.create(name, classes)` makes, for square images.

    Raises:
        ValueError: the network is not one of the benchmarked ones.
    """
    if match := re.fullmatch(r"wrn(\d+)_(\d+)", name):
        return wide_resnet(int(match[1]), int(match[2]), classes)
    if match := re.fullmatch(r"resnet(18|50)(_imagenet)?", name):
        stages = (2, 2, 2, 2) if match[1] == "18" else (3, 4, 6, 3)
        return resnet(stages, match[1] == "50", bool(match[2]), classes)
    if name == "vit_s32":
        return ViT(image_size, 32, 384, 12, 6, classes)
    raise ValueError(f"no PyTorch network to compare {name} with")


def _conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, bias=False)
