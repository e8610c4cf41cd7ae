"""Makes the files of models/ that PyTorch answers; run from this folder, needs torch.

Networks in PyTorch in float64, with module names as the authors', torchvision and the authors of
PyramidNet have them, and weights given by the formula of `weight`.
"""

import itertools
import json
import math

import numpy as np
import torch
from torch import nn


def conv(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class ResidualBlock(nn.Module):
    def __init__(self, inputs, width, stride, bottleneck, shortcut):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        layers = [conv(inputs, width, 3, stride), conv(width, width, 3)]
        if bottleneck:
            layers = [
                conv(inputs, width, 1),
                conv(width, width, 3, stride),
                conv(width, outputs, 1),
            ]
        self.names = []
        for i, layer in enumerate(layers, 1):
            self.names.append((f"conv{i}", f"bn{i}"))
            setattr(self, f"conv{i}", layer)
            setattr(self, f"bn{i}", nn.BatchNorm2d(layer.out_channels))
        self.shortcut_name = shortcut
        if stride > 1 or inputs != outputs:
            projection = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
            setattr(self, shortcut, projection)

    def forward(self, x):
        y = x
        for i, (layer, norm) in enumerate(self.names):
            y = getattr(self, norm)(getattr(self, layer)(y.relu() if i else y))
        return (y + getattr(self, self.shortcut_name, nn.Identity())(x)).relu()


class ResNet(nn.Module):
    def __init__(self, stage_sizes, bottleneck=False, imagenet=False, num_classes=10):
        super().__init__()
        shortcut, self.head = ("downsample", "fc") if imagenet else ("shortcut", "linear")
        self.conv1 = conv(3, 64, 7, 2) if imagenet else conv(3, 64, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, padding=1) if imagenet else nn.Identity()
        inputs = 64
        for stage, blocks in enumerate(stage_sizes):
            layer = nn.Sequential()
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                width = 64 * 2**stage
                layer.append(ResidualBlock(inputs, width, stride, bottleneck, shortcut))
                inputs = 4 * width if bottleneck else width
            setattr(self, f"layer{stage + 1}", layer)
        setattr(self, self.head, nn.Linear(inputs, num_classes))

    def forward(self, x):
        x = self.pool(self.bn1(self.conv1(x)).relu())
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return getattr(self, self.head)(x.mean((2, 3)))


class VGG(nn.Module):
    def __init__(self, stage_sizes, num_classes=10):
        super().__init__()
        self.features, inputs = nn.Sequential(), 3
        for stage, convolutions in enumerate(stage_sizes):
            for _ in range(convolutions):
                outputs = min(64 * 2**stage, 512)
                self.features.append(nn.Conv2d(inputs, outputs, 3, padding=1))
                self.features.extend([nn.BatchNorm2d(outputs), nn.ReLU()])
                inputs = outputs
            self.features.append(nn.MaxPool2d(2))
        self.classifier = nn.Sequential()
        for outputs in (4096, 4096):
            self.classifier.extend([nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(0)])
            inputs = outputs
        self.classifier.append(nn.Linear(inputs, num_classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class PyramidBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()

    def forward(self, x):
        y = self.conv2(self.bn2(self.conv1(self.bn1(x))).relu())
        y = self.bn3(y).clone()
        y[:, : x.shape[1]] += self.pool(x)
        return y


class PyramidNet(nn.Module):
    def __init__(self, depth, alpha, num_classes=10):
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1, self.bn1 = conv(3, 16, 3), nn.BatchNorm2d(16)
        growth = itertools.repeat(alpha / (3 * blocks), 3 * blocks)
        widths = [round(width) for width in itertools.accumulate(growth, initial=16)]
        for stage in range(3):
            layer = nn.Sequential()
            for i in range(stage * blocks, (stage + 1) * blocks):
                stride = 2 if stage > 0 and i == stage * blocks else 1
                layer.append(PyramidBlock(widths[i], widths[i + 1], stride))
            setattr(self, f"layer{stage + 1}", layer)
        self.bn_final, self.fc = nn.BatchNorm2d(widths[-1]), nn.Linear(widths[-1], num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)))))
        return self.fc(self.bn_final(x).relu().mean((2, 3)))


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


def state_dict(shapes, freq):
    entries = enumerate(shapes)
    return {name: torch.tensor(weight(i, name, shape, freq)) for i, (name, shape) in entries}


def in_float64(name, model):
    """models/NAME_float64.npz: `train_logits` in float64 where models/NAME.npz has float32."""
    golden = np.load(f"models/{name}.npz")
    model.double().load_state_dict(state_dict(json.loads(str(golden["keys"])), golden["freq"]))
    with torch.no_grad():
        logits = model.train()(torch.tensor(golden["x"]).double())
    np.savez(f"models/{name}_float64.npz", train_logits=logits.numpy())


def from_scratch(name, model, images, freq=0.7):
    """models/NAME.npz with the entries of the authors' files, in float64; `x` in float16."""
    shapes = [(key, tuple(value.shape)) for key, value in model.state_dict().items()]
    model.double().load_state_dict(state_dict(shapes, freq))
    x = np.random.default_rng(0).normal(size=images).astype(np.float16)
    inputs = torch.tensor(x.astype(np.float64))
    with torch.no_grad():
        eval_logits, train_logits = model.eval()(inputs), model.train()(inputs)
    np.savez_compressed(
        f"models/{name}.npz",
        keys=json.dumps(shapes),
        freq=freq,
        x=x,
        eval_logits=eval_logits.numpy(),
        train_logits=train_logits.numpy(),
        bn_mean=model.bn1.running_mean.numpy(),
        bn_var=model.bn1.running_var.numpy(),
    )


def main():
    in_float64("resnet18", ResNet((2, 2, 2, 2)))
    in_float64("resnet50", ResNet((3, 4, 6, 3), bottleneck=True))
    in_float64("vgg11_bn", VGG((1, 1, 2, 2, 2)))
    # Sides that are odd somewhere on the way down, and not square.
    from_scratch("resnet18_imagenet", ResNet((2, 2, 2, 2), imagenet=True), (2, 3, 40, 33))
    from_scratch("pyramidnet14_20", PyramidNet(14, 20), (4, 3, 13, 10))


if __name__ == "__main__":
    main()
