"""Image classification sets, on the device or streamed from disk, and their augmentation."""

from vasso_jax.data.augmentation import Augmentation, Targets, augment, mix, normalize
from vasso_jax.data.batches import Batch, EvalBatch, epoch_order, evaluation_batch, take_batch
from vasso_jax.data.datasets import (
    EncodedExample,
    EncodedSplit,
    ImageDataset,
    Split,
    StreamedDataset,
    Streaming,
    from_arrays,
)
from vasso_jax.data.noise import LabelNoise, add_label_noise
from vasso_jax.data.sources import DATASETS, Source, constructor, load
from vasso_jax.data.streaming import Host, HostBatch, evaluation_batches, training_batches
from vasso_jax.data.subset import draw
from vasso_jax.data.validation import Validation, hold_out

__all__ = [
    "DATASETS",
    "Augmentation",
    "Batch",
    "EncodedExample",
    "EncodedSplit",
    "EvalBatch",
    "Host",
    "HostBatch",
    "ImageDataset",
    "LabelNoise",
    "Source",
    "Split",
    "StreamedDataset",
    "Streaming",
    "Targets",
    "Validation",
    "add_label_noise",
    "augment",
    "constructor",
    "draw",
    "epoch_order",
    "evaluation_batch",
    "evaluation_batches",
    "from_arrays",
    "hold_out",
    "load",
    "mix",
    "normalize",
    "take_batch",
    "training_batches",
]
