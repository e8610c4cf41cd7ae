"""A data set of your own in the trainer: images of bars, classified by their direction.

    python main.py --config=examples/own_dataset.py --config.data.noise=80

The trainer calls the function with the other fields of the section `data`. For arrays, use
`data.from_arrays`; for images on disk, `data.StreamedDataset`. The data sets `folder` and `npz`
need no code. (For a copy of this file in the current folder, add
--config.data.name=own_dataset:bars.) From Python: train(config, workdir, dataset=bars()).
"""

import numpy as np
from ml_collections import ConfigDict

from vasso_jax import data
from vasso_jax.train.presets import digits

SIZE = 8


def bars(noise: float = 60.0, seed: int = 0) -> data.ImageDataset:
    """One bright row or column on a dark 8x8 image, with noise of this standard deviation."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 2, count)
        images = rng.normal(80, noise, (count, SIZE, SIZE))
        images[np.arange(count), rng.integers(0, SIZE, count)] += 100  # a row
        images[labels == 1] = images[labels == 1].swapaxes(1, 2)  # a column
        return images.clip(0, 255).astype(np.uint8)[..., None], labels

    return data.from_arrays("bars", draw(1024), draw(256), class_names=("row", "column"))


def get_config(method: str = "vasso") -> ConfigDict:
    config = digits(method)
    config.data = {"name": "examples.own_dataset:bars", "noise": 60.0}
    config.epochs = 10
    return config
