"""The CIFAR builders of tensorflow-datasets, reading the official archive without TensorFlow.

Version, features, ids and order of examples are unchanged, so the result is the same data set.
"""

import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import PIL.Image
from tensorflow_datasets.image_classification import cifar

from vasso_jax.data.prepare.archives import read_members

_IMAGE_SHAPE = (3, 32, 32)
_IMAGE_BYTES = math.prod(_IMAGE_SHAPE)


class Cifar10(cifar.Cifar10, skip_registration=True):
    """Replaces what the original builder does with TensorFlow: reading files, encoding images."""

    def __init__(self, archive: pathlib.Path, on_example: Callable[[], None], **kwargs: Any):
        """`on_example` is called for each example written; `kwargs` go to tensorflow-datasets."""
        self._archive = archive
        self._on_example = on_example
        super().__init__(**kwargs)

    def _split_generators(self, dl_manager: Any) -> Any:
        layout, features = self._cifar_info, cast(Any, self.info.features)
        needed = {*layout.label_files, *layout.train_files, *layout.test_files}
        files = read_members(self._archive, needed)
        for key, file in zip(layout.label_keys, layout.label_files, strict=True):
            names = files[file].decode().split("\n")
            features[key].names = [name for name in names if name]
        return {
            "train": self._examples("train", [files[name] for name in layout.train_files]),
            "test": self._examples("test", [files[name] for name in layout.test_files]),
        }

    def _examples(self, split: str, files: Sequence[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
        # A record has its labels, one byte each, then the red, green and blue values of all pixels.
        keys = self._cifar_info.label_keys
        records = np.frombuffer(b"".join(files), np.uint8).reshape(-1, len(keys) + _IMAGE_BYTES)
        images = records[:, len(keys) :].reshape(-1, *_IMAGE_SHAPE).transpose(0, 2, 3, 1)
        for i, (labels, image) in enumerate(
            zip(records[:, : len(keys)].tolist(), images, strict=True)
        ):
            example = dict(zip(keys, labels, strict=True))
            example["id"] = f"{split}_{i:05d}"
            example["image"] = PIL.Image.fromarray(np.ascontiguousarray(image))
            yield i, example
            self._on_example()

    # These would print a download size that does not apply here.
    def _log_download_bytes(self) -> None: ...
    def _log_download_done(self) -> None: ...


class Cifar100(Cifar10, cifar.Cifar100, skip_registration=True):
    """As `Cifar10`, with the layout and features of the original Cifar100."""
