"""Image classification sets that tensorflow-datasets, or this project, has prepared."""

import dataclasses

from rich.console import Console

from vasso_jax.data.datasets import (
    IMAGENET_STATISTICS,
    ImageDataset,
    StreamedDataset,
    Streaming,
    channel_statistics,
)
from vasso_jax.data.prepare.preparation import PREPARABLE, prepare
from vasso_jax.data.sources.source import Source
from vasso_jax.data.sources.tfds_reader import TfdsCopy
from vasso_jax.data.tfds_copies import newest_copy, tfds_root
from vasso_jax.names import check_choice, did_you_mean

# Per-channel mean and standard deviation, for pixels in [0, 255], that the authors use for both
# CIFAR-10 and CIFAR-100.
_CIFAR = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))
# Common sets, to suggest one for a misspelt name; tensorflow-datasets has many more.
DATASETS = (
    *("digits", "folder", "npz", "cifar10", "cifar100", "cifar10_n", "mnist", "fashion_mnist"),
    *("svhn_cropped", "imagenet2012"),
)
# Human labels of CIFAR-10's training images -> their names in the copy of tensorflow-datasets.
HUMAN_LABELS = {
    "aggre": "aggre_label",
    "worse": "worse_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tfds(Streaming, Source):
    """A set of labelled images by its name in tensorflow-datasets, prepared once.

    Sets of one image size are read into memory. Others are read from disk; the fields of
    `Streaming` apply only to those.

    Attributes:
        name: in tensorflow-datasets.
        dir: folder of the prepared copies; empty: $TFDS_DATA_DIR, or ~/tensorflow_datasets.
        human_labels: which human labels of `cifar10_n` to train on: aggre, worse, random1, random2
            or random3; empty for any other set.

    Raises:
        ValueError: human_labels for another set, or unknown ones.
    """

    name: str
    dir: str = ""
    human_labels: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.name == "cifar10_n") != bool(self.human_labels):
            raise ValueError(
                f"human_labels chooses the labels of cifar10_n ({', '.join(HUMAN_LABELS)}), and "
                f"must be empty for other sets; got {self.human_labels!r} for {self.name}"
            )
        if self.human_labels:
            check_choice("human_labels", self.human_labels, tuple(HUMAN_LABELS))

    def prepare(self, console: Console) -> None:
        """Downloads and prepares CIFAR-10 or CIFAR-100, if there is no copy of it.

        Raises:
            OSError: no network, or the disk is full or read-only.
        """
        if self.name in PREPARABLE and newest_copy(self.name, self.dir) is None:
            prepare(self.name, self.dir, console=console)

    def load(self) -> ImageDataset | StreamedDataset:
        """Reads the newest prepared copy into memory, or opens it.

        Raises:
            FileNotFoundError: there is no copy; the message says where it looked and what to do.
            ValueError: the copy is damaged or not for image classification, or a field has no
                effect.
        """
        directory = newest_copy(self.name, self.dir)
        if directory is None:
            raise FileNotFoundError(self._how_to_get())
        copy = TfdsCopy(self.name, directory)
        if None in copy.image_shape:
            train, test, *validation = map(copy.encoded, copy.splits)
            return StreamedDataset(
                self.name, copy.class_names, *IMAGENET_STATISTICS, train, test, self, *validation
            )
        for field in dataclasses.fields(Streaming):
            if getattr(self, field.name) != field.default:
                raise ValueError(
                    f"data.{field.name} has no effect on {self.name}, whose images have one size "
                    "and are held in memory: leave it out"
                )
        label = HUMAN_LABELS[self.human_labels] if self.human_labels else "label"
        train, *others = copy.arrays("train", label), *map(copy.arrays, copy.splits[1:])
        if self.name.startswith("cifar10"):
            mean, std = (tuple(value / 255 for value in values) for values in _CIFAR)
        else:
            mean, std = channel_statistics(train.images)
        return ImageDataset(self.name, copy.class_names, mean, std, train, *others)

    def _how_to_get(self) -> str:
        name, root = self.name, tfds_root(self.dir)
        near = "" if name in DATASETS else did_you_mean(name, DATASETS)
        if own := name in PREPARABLE:
            command = f"vasso-jax prepare {name} --dir={root}"
        else:
            builder = f"tfds.builder('{name}', data_dir='{root}')"
            command = (
                f'python -c "import tensorflow_datasets as tfds; {builder}.download_and_prepare()"'
            )
        needs = " (needs TensorFlow: pip install tensorflow-cpu)"
        return (
            f"no prepared copy of {name}: looked for {root / name}/VERSION/dataset_info.json.{near}"
            "\nIf you have one elsewhere, give --config.data.dir=DIR, the folder that holds "
            f"{name}/VERSION.\n"
            f"To download and prepare it there, once{'' if own else needs}:\n    {command}\n"
            "To train without any download: vasso-jax train --config=digits_vasso"
        )
