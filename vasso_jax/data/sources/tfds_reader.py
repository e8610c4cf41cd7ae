"""Reads data sets that tensorflow-datasets prepared, in either file format, without TensorFlow."""

import contextlib
import io
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.Image

from vasso_jax.data.checks import valid_names
from vasso_jax.data.datasets import EncodedExample, Split
from vasso_jax.data.sources.record_files import Records, open_records
from vasso_jax.files import check_file, one_line, reason

# Sets to evaluate on another split than `test`; sets without `test` use `validation`.
_TEST_SPLITS = {"imagenet2012": "validation"}  # its test split has no labels
_MOST_CLASSES = 1_000_000


class TfdsCopy:
    """A prepared image classification set on disk.

    Attributes:
        directory: as given.
        class_names: by label.
    """

    def __init__(self, name: str, directory: pathlib.Path):
        """Reads the description of the data set.

        Args:
            name: of the data set.
            directory: DATA_DIR/NAME/VERSION.

        Raises:
            ValueError: the copy is damaged, not for image classification, or has no test split.
        """
        # Local: only these data sets need tensorflow-datasets.
        import tensorflow_datasets as tfds

        self.directory = directory
        self._name = f"{name} in {directory}"
        with self._naming_damage():
            for path in (*directory.glob("*.json"), *directory.glob("*.txt")):
                check_file(path)
            self._builder: Any = tfds.builder_from_directory(directory)
            self._features = dict(self._builder.info.features)
            splits = list(self._builder.info.splits)
        if not isinstance(self._features.get("image"), tfds.features.Image) or not isinstance(
            self._features.get("label"), tfds.features.ClassLabel
        ):
            raise ValueError(
                f"{self._name} is no image classification set: it lacks an image or a class label, "
                f"and has only {one_line(', '.join(self._features))}"
            )
        classes = self._features["label"].num_classes or 0
        if not 0 < classes <= _MOST_CLASSES:
            raise ValueError(f"{self._name} has {classes:,} classes, not 1 to {_MOST_CLASSES:,}")
        self.class_names = valid_names(self._name, self._features["label"].names)
        if len(self.class_names) != classes:
            raise ValueError(
                f"{self._name} has {len(self.class_names):,} names for {classes:,} classes: delete "
                "that folder and prepare the data set again"
            )
        wanted = _TEST_SPLITS.get(name, "test" if "test" in splits else "validation")
        if missing := {"train", wanted} - {*splits}:
            raise ValueError(
                f"{self._name} has no split {missing.pop()}, only {one_line(', '.join(splits))}"
            )
        self._splits = {"train": "train", "test": wanted}
        if wanted == "test" and "validation" in splits:
            self._splits["validation"] = "validation"

    @property
    def splits(self) -> tuple[str, ...]:
        """`train`, `test` and, if the copy has one besides, `validation`."""
        return tuple(self._splits)

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """(H, W, C), with None where images differ."""
        return self._features["image"].shape

    def arrays(self, split: str, label: str = "label") -> Split:
        """All of a split in memory.

        Args:
            split: of `splits`, whatever name it has in the copy.
            label: the feature that holds the labels.

        Raises:
            ValueError: there is no such feature, the copy is damaged, or image sizes differ.
        """
        self._check_label(label)
        with self._naming_damage():
            info = self._builder.info.splits[self._splits[split]]
            records = self._open(info)
            shape: Any = self.image_shape
            images = _room(len(records), shape)
            labels = np.empty(len(records), np.int32)
            for i, record in enumerate(records.__getitems__(range(len(records)))):
                encoded, labels[i] = _parse(record, label)
                images[i] = _decoded(encoded, *shape[:2])
            self._check_labels(split, labels)
            return Split(images, labels)

    def encoded(self, split: str) -> "TfdsSplit":
        """A split to be read image by image; see `arrays`."""
        with self._naming_damage():
            info = self._builder.info.splits[self._splits[split]]
            records = self._open(info)
            # One example is enough: either all examples of a split have labels, or none.
            self._check_labels(split, np.asarray([_parse(records[0], "label")[1]]))
            return TfdsSplit(records, f"{info.name} in {self.directory}")

    def _open(self, info: Any) -> Records:
        records = open_records(self._builder.info.file_format.value, info.filepaths)
        if len(records) != info.num_examples:
            raise ValueError(f"{info.name} has {len(records)} of {info.num_examples} examples")
        return records

    def _check_labels(self, split: str, labels: np.ndarray) -> None:
        low, high, classes = labels.min(), labels.max(), len(self.class_names)
        if low < 0 or high >= classes:
            raise ValueError(
                f"labels of its split {self._splits[split]} run from {low} to {high}, not within 0 "
                f"to {classes - 1}: it has no labels, or wrong ones"
            )

    def _check_label(self, label: str) -> None:
        if label not in self._features:
            raise ValueError(
                f"{self._name} has no labels {label!r}, only {one_line(', '.join(self._features))}"
            )

    @contextlib.contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except (MemoryError, PermissionError):
            raise  # not the fault of the files
        except Exception as error:  # the libraries raise many kinds of error for a damaged file
            # tensorflow-datasets imports TensorFlow to ask it for a type that NumPy does not know.
            if isinstance(error, ImportError) and error.name != "tensorflow":
                raise
            raise ValueError(
                f"the copy of {self._name} cannot be read: if it is damaged, "
                "delete that folder and prepare the data set again. "
                f"({type(error).__name__}: {reason(error)})"
            ) from error


class TfdsSplit:
    """Random access to the encoded images of a split."""

    def __init__(self, records: Records, name: str):
        self._records, self._name = records, name

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> EncodedExample:
        name = f"image {index} of {self._name}"
        try:
            encoded, label = _parse(self._records[index], "label")
        except Exception as error:  # as in TfdsCopy
            raise ValueError(
                f"{name} cannot be read ({type(error).__name__}: {reason(error)})"
            ) from error
        return EncodedExample(encoded, label, name)


def _room(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 [count, *shape], not filled."""
    try:
        return np.empty((count, *shape), np.uint8)
    except (MemoryError, ValueError) as error:
        raise ValueError(
            f"there is no room in memory for {count:,} images of shape {shape}"
        ) from error


def _decoded(encoded: bytes, height: int, width: int) -> np.ndarray:
    """uint8 [height, width, C]; ValueError, before it is decoded, if it has another size."""
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        if image.size != (width, height):
            raise ValueError(
                f"an image has {image.height} x {image.width} pixels, not {height} x {width}"
            )
        pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def _parse(record: bytes, label: str) -> tuple[bytes, int]:
    """The encoded image and a label of a serialized example.

    tensorflow-datasets' own parser takes longer than decoding 32x32 pixels, so it is not used.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    example: Any = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]
    feature = example.FromString(record).features.feature
    return feature["image"].bytes_list.value[0], feature[label].int64_list.value[0]
