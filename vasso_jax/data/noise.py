"""Wrong training labels at a chosen rate, to study robustness; test labels never change."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from vasso_jax.data.datasets import (
    Dataset,
    EncodedExample,
    EncodedSplit,
    ImageDataset,
    StreamedDataset,
)
from vasso_jax.names import check_choice

KINDS = ("symmetric", "asymmetric")

# The superclass of each class of CIFAR-100, in the order of their labels.
_CIFAR100_SUPERCLASSES = (
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7),
    *(6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10),
    *(16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16),
    *(12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
)
# Classes that are easily confused (Patrini et al., arXiv 1609.03683, section 5).
# In CIFAR-10: truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog.
_CIFAR10 = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
_CONFUSIONS: Mapping[str, Mapping[int, int]] = {
    "mnist": {2: 7, 3: 8, 5: 6, 6: 5, 7: 1},
    "cifar10": _CIFAR10,
    "cifar10_n": _CIFAR10,
}


@dataclasses.dataclass(frozen=True)
class LabelNoise:
    """Which labels to replace, and by what.

    Attributes:
        kind: `symmetric` (any other class, each equally likely) or `asymmetric` (one similar
            class). In MNIST, CIFAR-10 and CIFAR-100 the similar class is that of Patrini et al.,
            arXiv 1609.03683. In CIFAR-10 five classes have none and keep their label; in CIFAR-100
            it is the next class of the same superclass. In any other set it is the next class, and
            the first class for the last one.
        rate: share of training labels that are drawn to be replaced, in [0, 1]; exactly
            round(rate * N) labels.
        seed: seed of the draw.

    Raises:
        ValueError: unknown kind, or a rate or seed out of range.
    """

    kind: str
    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("kind of label noise", self.kind, KINDS)
        if not 0 <= self.rate <= 1:
            raise ValueError(f"the rate of label noise must be in [0, 1], got {self.rate}")
        if self.seed < 0:
            raise ValueError(f"the seed of label noise must be >= 0, got {self.seed}")


def add_label_noise(
    dataset: ImageDataset | StreamedDataset, noise: LabelNoise
) -> tuple[ImageDataset | StreamedDataset, int]:
    """The data set with some training labels replaced, and how many labels have changed.

    The choice depends only on the noise, the number of images and the classes.

    Raises:
        ValueError: the set has one class.
    """
    num_classes = len(dataset.class_names)
    if num_classes < 2:
        raise ValueError(f"label noise needs two classes, {dataset.name} has {num_classes}")
    replacement = _Replacement.draw(noise, dataset.num_train, _confusions(dataset))
    if isinstance(dataset, StreamedDataset):
        # In a streamed set no class is confused with itself, so every drawn label changes.
        changed = int(replacement.drawn.sum())
        return dataclasses.replace(dataset, train=_Relabelled(dataset.train, replacement)), changed
    labels = replacement(slice(None), dataset.train.labels)
    changed = int((labels != dataset.train.labels).sum())
    return dataclasses.replace(dataset, train=dataset.train._replace(labels=labels)), changed


def _confusions(dataset: Dataset) -> np.ndarray:
    """int32 [classes], the class that each is confused with."""
    classes = np.arange(len(dataset.class_names), dtype=np.int32)
    if dataset.name == "cifar100":
        superclasses = np.asarray(_CIFAR100_SUPERCLASSES)
        confusions = classes.copy()
        for superclass in range(20):
            (members,) = np.nonzero(superclasses == superclass)
            confusions[members] = np.roll(members, -1)
        return confusions
    if confusions := _CONFUSIONS.get(dataset.name):
        return np.array([confusions.get(int(c), c) for c in classes], np.int32)
    return np.roll(classes, -1)


@dataclasses.dataclass(frozen=True)
class _Replacement:
    """drawn: bool [N]; shifts: int32 [N], added to labels; confusions: int32 [classes] or None."""

    drawn: np.ndarray
    shifts: np.ndarray
    num_classes: int
    confusions: np.ndarray | None

    @classmethod
    def draw(cls, noise: LabelNoise, n: int, confusions: np.ndarray) -> "_Replacement":
        rng = np.random.default_rng(noise.seed)
        drawn = np.zeros(n, bool)
        drawn[rng.permutation(n)[: round(noise.rate * n)]] = True
        # Shifts of 0 or a whole turn are left out: they would give the same class.
        shifts = rng.integers(1, len(confusions), n, dtype=np.int32)
        return cls(
            drawn, shifts, len(confusions), confusions if noise.kind == "asymmetric" else None
        )

    def __call__(self, index: int | slice, labels: np.ndarray) -> np.ndarray:
        """The new labels of the images at `index`."""
        if self.confusions is None:
            others = (labels + self.shifts[index]) % self.num_classes
        else:
            others = self.confusions[labels]
        return np.where(self.drawn[index], others, labels).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class _Relabelled:
    """A split on disk with replaced labels."""

    split: EncodedSplit
    replacement: _Replacement

    @property
    def labels(self) -> np.ndarray:
        """Those of the split, if it has some, replaced."""
        split: Any = self.split
        return self.replacement(slice(None), split.labels)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> EncodedExample:
        example = self.split[index]
        label = self.replacement(index, np.asarray(example.label, np.int32))
        return example._replace(label=int(label))
