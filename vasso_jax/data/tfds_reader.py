"""Reads data sets that tensorflow-datasets prepared, in either file format, without TensorFlow."""

import os
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np


class TfdsCopy(NamedTuple):
    """splits: {"train": (images uint8 [N, H, W, C], labels int32 [N]), "test": ...}."""

    splits: dict[str, tuple[np.ndarray, np.ndarray]]
    class_names: tuple[str, ...]


def read_tfds(name: str, data_dir: str = "") -> TfdsCopy:
    """Reads the train and test split of the newest prepared version of `name` into memory.

    Args:
        name: of an image classification set with images of one size.
        data_dir: empty for $TFDS_DATA_DIR, or ~/tensorflow_datasets.

    Raises:
        FileNotFoundError: no prepared copy there.
        ValueError: a copy in an unknown format, damaged, or of images that differ in size.
    """
    version_dir = _newest_version(name, data_dir)
    # Local: only these data sets need it.
    import tensorflow_datasets as tfds

    try:
        builder: Any = tfds.builder_from_directory(version_dir)
        names = tuple(builder.info.features["label"].names)
        splits = {split: _read_split(builder, split) for split in ("train", "test")}
    except (ImportError, MemoryError, PermissionError):
        raise  # not the fault of the files
    except Exception as error:  # whatever a damaged file makes of the libraries below
        raise ValueError(
            f"the copy of {name} in {version_dir} cannot be read: if it is damaged, delete that "
            f"folder and prepare the data set again. ({type(error).__name__}: {error})"
        ) from error
    return TfdsCopy(splits, names)


def _newest_version(name: str, data_dir: str) -> pathlib.Path:
    root = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    root = root.expanduser().absolute()
    versions = [path.parent for path in (root / name).glob("*/dataset_info.json")]
    versions = [path for path in versions if path.name.replace(".", "").isdigit()]
    if versions:
        return max(versions, key=lambda path: tuple(map(int, path.name.split("."))))
    raise FileNotFoundError(
        f"no prepared copy of {name}: looked for {root / name}/VERSION/dataset_info.json.\n"
        "If you have one elsewhere, give --config.data_dir=DIR, the folder that holds "
        f"{name}/VERSION.\n"
        "To download and prepare it there (once; needs TensorFlow: pip install tensorflow-cpu):\n"
        '    python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{root}').download_and_prepare()\"\n"
        "To train without any download: python main.py --config=configs/digits_vasso.py"
    )


def _read_split(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    info = builder.info.splits[split]
    images, labels = [], []
    for record in _records(builder.info.file_format.value, info.filepaths):
        example = builder.info.features.deserialize_example_np(record)
        images.append(example["image"])
        labels.append(example["label"])
    if len(images) != info.num_examples:
        raise ValueError(f"{split} has {len(images)} of {info.num_examples} examples")
    if shapes := {image.shape for image in images} - {images[0].shape}:
        raise ValueError(f"{split} has images of shapes {images[0].shape} and {shapes.pop()}")
    return np.stack(images), np.asarray(labels, np.int32)


def _records(file_format: str, paths: Iterable[Any]) -> Iterable[bytes]:
    """The serialized examples in `paths`, in order."""
    if file_format == "array_record":
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        with ArrayRecordDataSource([str(path) for path in paths]) as source:
            yield from source.__getitems__(range(len(source)))
    elif file_format == "tfrecord":
        from grain.experimental import TFRecordIterDataset

        for path in paths:
            yield from TFRecordIterDataset(str(path))
    else:
        raise ValueError(f"file format {file_format}; array_record and tfrecord are supported")
