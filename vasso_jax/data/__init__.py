"""Image classification sets that fit on the device, and their augmentation in pure jax.numpy."""

from vasso_jax.data.augmentation import Augmentation, augment, normalize
from vasso_jax.data.batches import epoch_order, evaluation_batch, take_batch
from vasso_jax.data.sources import DATASETS, ImageDataset, Split, load

__all__ = [
    "DATASETS",
    "Augmentation",
    "ImageDataset",
    "Split",
    "augment",
    "epoch_order",
    "evaluation_batch",
    "load",
    "normalize",
    "take_batch",
]
