"""`load(name)`: any data set there is, checked, with its figures."""

import difflib
import pathlib
import re
from typing import Any

import numpy as np

from vasso_jax.choices import check_choice
from vasso_jax.data.datasets import ImageDataset, Split, StreamedDataset, channel_statistics
from vasso_jax.data.prepare.preparation import PREPARABLE
from vasso_jax.data.sources.folder import FolderSplit, class_folders
from vasso_jax.data.sources.npz import read_npz
from vasso_jax.data.sources.tfds_reader import TfdsCopy
from vasso_jax.data.tfds_copies import newest_copy, tfds_root

# Per-channel mean and standard deviation of 255 that the authors use for CIFAR-10 and -100 alike.
_CIFAR = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
# And the usual ones of ImageNet, for pixels in [0, 1]; networks trained on it expect them.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Share of the digits that is held out; scikit-learn has no official split.
_DIGITS_TEST_FRACTION = 0.2
# The labels that people gave to CIFAR-10's training images, by their names in tfds' copy.
HUMAN_LABELS = {
    "aggre": "aggre_label",
    "worse": "worse_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
}
# The names of tfds that come to mind; any other set of labelled images will do.
DATASETS = (
    *("digits", "cifar10", "cifar100", "cifar10_n", "mnist", "fashion_mnist", "svhn_cropped"),
    *("imagenet2012", "folder", "npz"),
)


def load(
    name: str, data_dir: str = "", *, split_seed: int = 0, human_labels: str = ""
) -> ImageDataset | StreamedDataset:
    """Loads or opens the data set `name`.

    Args:
        name: `digits` (scikit-learn's 1,797 handwritten digits, 8x8 grey, part of its package);
            `folder` (image files as train/CLASS/* and val/CLASS/*); `npz` (train.npz and test.npz);
            or an image classification set prepared by tensorflow-datasets, by its name there. Of
            these, sets of one image size are read into memory, others stay on disk.
        data_dir: the folder of `folder` and `npz`, or of the tensorflow-datasets copies; empty for
            the latter: $TFDS_DATA_DIR, or ~/tensorflow_datasets.
        split_seed: draws the held-out fifth of `digits`; the other sets have a fixed test split.
        human_labels: for `cifar10_n`, whose labels to train on: one of HUMAN_LABELS; else empty.

    Raises:
        ValueError: the files found are not such a data set, or are damaged.
        FileNotFoundError: nothing there; the message says where it looked and what to do.
        OSError: something there cannot be read.
    """
    if (name == "cifar10_n") != bool(human_labels):
        raise ValueError(
            f"human_labels chooses the labels of cifar10_n ({', '.join(HUMAN_LABELS)}), and of no "
            f"other set; got dataset={name}, human_labels={human_labels!r}"
        )
    if human_labels:
        check_choice("human_labels", human_labels, tuple(HUMAN_LABELS))
    if name == "digits":
        return _load_digits(split_seed)
    if name in ("folder", "npz"):
        if not data_dir:
            raise ValueError(f"dataset={name} needs --config.data_dir=DIR")
        directory = pathlib.Path(data_dir).expanduser().absolute()
        return (_open_folder if name == "folder" else _load_npz)(directory)
    if not re.fullmatch(r"\w+(/[\w.-]+)?", name):
        raise ValueError(
            f"dataset={name!r} is no name of a data set; known are {', '.join(DATASETS)}, and what "
            "tensorflow-datasets has"
        )
    directory = newest_copy(name, data_dir)
    if directory is None:
        raise FileNotFoundError(_how_to_get(name, data_dir))
    return _load_tfds(TfdsCopy(name, directory), human_labels)


def _load_tfds(copy: TfdsCopy, human_labels: str) -> ImageDataset | StreamedDataset:
    if None in copy.image_shape:
        mean, std = _IMAGENET
        train, test = copy.encoded("train"), copy.encoded("test")
        return StreamedDataset(copy.name, copy.class_names, mean, std, train, test)
    train = copy.arrays("train", HUMAN_LABELS[human_labels] if human_labels else "label")
    test = copy.arrays("test")
    if copy.name.startswith("cifar10"):
        mean, std = (tuple(value / 255 for value in values) for values in _CIFAR)
    else:
        mean, std = channel_statistics(train.images)
    return ImageDataset(copy.name, copy.class_names, mean, std, train, test)


def _open_folder(directory: pathlib.Path) -> StreamedDataset:
    names = class_folders(directory / "train")
    train, test = (FolderSplit(directory / split, names) for split in ("train", "val"))
    return StreamedDataset("folder", names, *_IMAGENET, train, test)


def _load_npz(directory: pathlib.Path) -> ImageDataset:
    train, test, names = read_npz(directory)
    return ImageDataset("npz", names, *channel_statistics(train.images), train, test)


def _load_digits(split_seed: int) -> ImageDataset:
    if split_seed < 0:
        raise ValueError(f"split_seed must be >= 0, got {split_seed}")
    # Local: scikit-learn takes most of a second to import and only this set needs it.
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    # Grey levels 0..16 in the package.
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int32)
    order = np.random.default_rng(split_seed).permutation(len(images))
    held_out = round(len(images) * _DIGITS_TEST_FRACTION)
    test, train = order[:held_out], order[held_out:]
    return ImageDataset(
        "digits",
        tuple(str(digit) for digit in digits.target_names),
        *channel_statistics(images[train]),
        Split(images[train], labels[train]),
        Split(images[test], labels[test]),
    )


def _how_to_get(name: str, data_dir: str) -> str:
    root = tfds_root(data_dir)
    near = difflib.get_close_matches(name, DATASETS, n=1) if name not in DATASETS else []
    if own := name in PREPARABLE:
        command = f"python -m vasso_jax.data.prepare {name} --data_dir={root}"
    else:
        builder = f"tfds.builder('{name}', data_dir='{root}')"
        command = (
            f'python -c "import tensorflow_datasets as tfds; {builder}.download_and_prepare()"'
        )
    needs = " (needs TensorFlow: pip install tensorflow-cpu)"
    return (
        f"no prepared copy of {name}: looked for {root / name}/VERSION/dataset_info.json."
        + (f" Did you mean {near[0]}?" if near else "")
        + "\nIf you have one elsewhere, give --config.data_dir=DIR, the folder that holds "
        f"{name}/VERSION.\n"
        f"To download and prepare it there, once{'' if own else needs}:\n    {command}\n"
        "To train without any download: python main.py --config=configs/digits_vasso.py"
    )
