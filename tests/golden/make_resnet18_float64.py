"""Makes models/resnet18_float64.npz; run from this folder, needs torch.

The CIFAR ResNet-18 in PyTorch, in training mode and float64, with the weights and images of
models/resnet18.npz.
"""

import json
import math

import numpy as np
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        widths = [64, 64, 128, 256, 512]
        for i in range(1, 5):
            first = Block(widths[i - 1], widths[i], 1 if i == 1 else 2)
            setattr(self, f"layer{i}", nn.Sequential(first, Block(widths[i], widths[i], 1)))
        self.linear = nn.Linear(512, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        return self.linear(x.mean((2, 3)))


def weight(index, name, shape, freq):
    """The formula of README.md in this folder and test_golden_outputs.py."""
    wave = np.sin(np.arange(math.prod(shape)) * freq + index).reshape(shape)
    if name.endswith("num_batches_tracked"):
        return np.zeros((), np.int64)
    if name.endswith("running_var"):
        return 1 + 0.5 * wave**2
    if len(shape) >= 2:
        return wave * math.sqrt(2 / math.prod(shape[1:]))
    return 0.1 * wave + name.endswith("weight")


def main():
    golden = np.load("models/resnet18.npz")
    entries = enumerate(json.loads(str(golden["keys"])))
    state = {
        name: torch.tensor(weight(i, name, shape, golden["freq"])) for i, (name, shape) in entries
    }
    model = ResNet18().double()
    model.load_state_dict(state)
    with torch.no_grad():
        logits = model.train()(torch.tensor(golden["x"]).double())
    np.savez("models/resnet18_float64.npz", train_logits=logits.numpy())


if __name__ == "__main__":
    main()
