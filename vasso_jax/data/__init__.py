"""Image classification sets, on the device or streamed from disk, and their augmentation."""

from vasso_jax.data.augmentation import Augmentation, augment, normalize
from vasso_jax.data.batches import epoch_order, evaluation_batch, take_batch
from vasso_jax.data.datasets import ImageDataset, Split, StreamedDataset
from vasso_jax.data.noise import LabelNoise, add_label_noise
from vasso_jax.data.prepare.preparation import prepare_if_missing
from vasso_jax.data.sources import DATASETS, load
from vasso_jax.data.streaming import HostBatch, Streaming

__all__ = [
    "DATASETS",
    "Augmentation",
    "HostBatch",
    "ImageDataset",
    "LabelNoise",
    "Split",
    "StreamedDataset",
    "Streaming",
    "add_label_noise",
    "augment",
    "epoch_order",
    "evaluation_batch",
    "load",
    "normalize",
    "prepare_if_missing",
    "take_batch",
]
