"""Held-out training images, to choose settings by: no test image takes part."""

import pathlib

import numpy as np

FOLDS = 4


def write_fold(folder: pathlib.Path, fold: int) -> None:
    """The training images of the digits as a set of its own, a quarter of them held out.

    Args:
        folder: gets train.npz, and test.npz with the quarter; created where missing.
        fold: which quarter, in [0, FOLDS).
    """
    from vasso_jax import data

    digits = data.load("digits")
    assert isinstance(digits, data.ImageDataset)
    order = np.random.default_rng(0).permutation(digits.num_train)
    held_out = np.array_split(order, FOLDS)[fold]
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = digits.train
    for name, indices in (("train", np.setdiff1d(order, held_out)), ("test", held_out)):
        np.savez(folder / f"{name}.npz", images=images[indices], labels=labels[indices])
