"""Makes hessians/*.npz; run from this folder, needs torch and pyhessian.

Hessians of two small networks in PyTorch in float64: all eigenvalues of the dense matrix, by
`torch.autograd.functional.hessian`, and of the network without BatchNorm what PyHessian finds by
power iterations and random signs.
"""

import json
from importlib import metadata

import numpy as np
import torch
from pyhessian import hessian
from torch import nn


def mlp():
    return nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4)), (32, 6), 4


def conv():
    """In training mode, so that BatchNorm uses the statistics of the batch."""
    layers = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Softplus()
    pooled = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return pooled, (16, 3, 6, 6), 3


def reference(model, inputs, classes):
    rng = np.random.default_rng(0)
    model = model.double().train()
    with torch.no_grad():
        for weights in model.parameters():
            scale = 0.5 if weights.ndim > 1 else 0.2
            values = scale * rng.normal(size=weights.shape) + (weights.ndim == 1)
            weights.copy_(torch.tensor(values))
    x, y = rng.normal(size=inputs), rng.integers(0, classes, inputs[0])
    data, criterion = (torch.tensor(x), torch.tensor(y)), nn.CrossEntropyLoss()
    names, values = zip(*model.named_parameters(), strict=True)

    def loss(*values):
        named = dict(zip(names, values, strict=True))
        return criterion(torch.func.functional_call(model, named, data[0]), data[1])

    rows = torch.autograd.functional.hessian(loss, values)
    sizes = [value.numel() for value in values]
    matrix = torch.cat(
        [
            torch.cat([block.reshape(n, m) for block, m in zip(row, sizes, strict=True)], 1)
            for row, n in zip(rows, sizes, strict=True)
        ]
    ).numpy()
    traces = [
        float(row[i].reshape(n, n).trace())
        for i, (row, n) in enumerate(zip(rows, sizes, strict=True))
    ]
    return {
        **{
            f"params/{name}": value.detach().numpy()
            for name, value in zip(names, values, strict=True)
        },
        "x": x,
        "y": y,
        "loss": loss(*values).item(),
        "eigenvalues": np.linalg.eigvalsh((matrix + matrix.T) / 2)[::-1],
        "traces": np.array(traces),
        **(by_pyhessian(model, criterion, data) if no_batch_norm(model) else {}),
        "versions": json.dumps(
            {package: metadata.version(package) for package in ("torch", "pyhessian", "numpy")}
        ),
    }


def no_batch_norm(model):
    """PyHessian puts the network into evaluation mode, which is another function with BatchNorm."""
    return not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


def by_pyhessian(model, criterion, data):
    torch.manual_seed(0)
    published = hessian(model, criterion, data=data, cuda=False)
    largest, _ = published.eigenvalues(maxIter=10_000, tol=1e-12, top_n=3)
    signs = published.trace(maxIter=500, tol=0)
    return {
        "pyhessian_eigenvalues": np.array(largest),
        "pyhessian_trace": [np.mean(signs), np.std(signs, ddof=1) / len(signs) ** 0.5],
    }


def main():
    for make in (mlp, conv):
        found = reference(*make())
        np.savez_compressed(f"hessians/{make.__name__}.npz", **found)
        print(make.__name__, found["eigenvalues"][:4], found["eigenvalues"][-2:])
        print(found["traces"], found["traces"].sum(), found["versions"])
        print({name: value for name, value in found.items() if name.startswith("pyhessian")})


if __name__ == "__main__":
    main()
