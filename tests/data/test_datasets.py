"""Data sets made by hand: what does not fit is one message, whatever way they come."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.data import (
    EncodedExample,
    ImageDataset,
    Split,
    StreamedDataset,
    Streaming,
    from_arrays,
    training_batches,
)

IMAGES = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)
LABELS = np.array([0, 1, 2, 1])
SPLIT = Split(IMAGES, LABELS)
NAMES, HALF = ("a", "b", "c"), (0.5,) * 3


def in_memory(**changes):
    fields = {"class_names": NAMES, "mean": HALF, "std": HALF, "train": SPLIT, "test": SPLIT}
    return ImageDataset("mine", **(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": Split(IMAGES / 255, LABELS)}, "mine, train: images must be uint8.*float64"),
        ({"test": Split(IMAGES[..., 0], LABELS)}, r"mine, test: images must be \[N, H, W, C\]"),
        ({"train": Split(IMAGES.transpose(0, 3, 1, 2), LABELS)}, r"is \[N, C, H, W\]"),
        ({"test": Split(IMAGES[:0], LABELS[:0])}, r"mine, test: .*got shape \(0, 5, 6, 3\)"),
        ({"train": Split(IMAGES, LABELS[:3])}, r"one per image; got int64 of shape \(3,\) for 4"),
        ({"train": Split(IMAGES, np.eye(4))}, r"labels must be integers.*float64 of shape \(4, 4"),
        ({"train": Split(IMAGES, LABELS - 1)}, "mine, train: labels run from -1 to 1"),
        ({"test": Split(IMAGES, LABELS + 1)}, "mine, test: labels run from 1 to 3, the 3 classes"),
        ({"test": Split(IMAGES[:, :4], LABELS)}, r"shape \(5, 6, 3\), but mine, test of \(4, 6, 3"),
        ({"train": Split(IMAGES, LABELS.tolist())}, "labels must be an array, got a list; data.fr"),
        (
            {"train": (IMAGES, LABELS)},
            r"must be a vasso_jax.data.Split\(images, labels\), got a tu",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        in_memory(**changes)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(in_memory(), **changes)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (None, r"mine, test: must be a pair \(images, labels\), got a NoneType"),
        (
            (IMAGES, LABELS, LABELS),
            r"mine, test: must be a pair \(images, labels\), got a tuple of 3",
        ),
        (IMAGES, r"mine, test: must be a pair \(images, labels\), got a ndarray"),
    ],
)
def test_what_is_no_pair_of_arrays_is_refused(test, message):
    with pytest.raises(ValueError, match=message):
        from_arrays("mine", (IMAGES, LABELS), test)


def test_arrays_without_a_name_are_refused_in_one_line():
    with pytest.raises(
        TypeError, match=r"^the first argument is the data set's name, got a tuple$"
    ):
        from_arrays((IMAGES, LABELS), (IMAGES, LABELS), None)


DESCRIPTIONS = [
    ({"class_names": "abc"}, "mine: class_names must be a tuple of strings.*'abc'"),
    ({"class_names": ()}, "class_names must be a tuple of strings"),
    ({"class_names": (0, 1, 2)}, "class_names must be a tuple of strings"),
    ({"class_names": 3}, "class_names must be a tuple of strings"),
    ({"mean": (0.5,)}, r"mine: mean must be 3 numbers in \[0, 1\], one per channel"),
    ({"mean": (125.3, 123.0, 113.9)}, r"for pixels in \[0, 1\], got \(125.3"),
    ({"mean": 0.5}, "mean must be 3 numbers"),
    ({"std": (0.2, 0.0, 0.2)}, "mine: std must be 3 numbers > 0"),
    ({"std": (0.2, float("nan"), 0.2)}, "std must be 3 numbers > 0"),
    ({"std": (0.2, float("inf"), 0.2)}, "std must be 3 numbers > 0"),
    ({"std": ("a", "b", "c")}, "std must be 3 numbers > 0"),
]


@pytest.mark.parametrize(("changes", "message"), DESCRIPTIONS)
def test_names_and_statistics_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        in_memory(**changes)
    with pytest.raises(ValueError, match=message):
        streamed(**changes)


def test_arrays_of_every_kind_are_taken_as_they_are(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    on_device = Split(jnp.asarray(IMAGES), jnp.asarray(LABELS))
    dataset = in_memory(train=Split(mapped, LABELS.astype(np.uint8)), test=on_device)
    assert dataset.train.images is mapped
    assert dataset.test is on_device


def test_names_and_statistics_become_plain_tuples():
    dataset = in_memory(class_names=["a", "b", "c"], mean=np.float32([0, 1, 0.5]), std=[1, 1, 1])
    assert (dataset.class_names, dataset.mean, dataset.std) == (NAMES, (0, 1, 0.5), (1, 1, 1))
    assert all(type(value) is float for value in dataset.mean + dataset.std)


class Encoded:
    """Images of one pixel, labelled by their number."""

    def __init__(self, count=4):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return EncodedExample(b"P6 1 1 255 \0\0\0", index, f"pixel {index}")


def streamed(**changes):
    fields = {"class_names": NAMES, "mean": HALF, "std": HALF}
    fields |= {"train": Encoded(), "test": Encoded(), "streaming": Streaming(image_size=1)}
    return StreamedDataset("mine", **(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": Encoded(0)}, "mine, test: holds no images"),
        ({"train": iter([])}, r"mine, train: must be a split with __len__ and __getitem__"),
    ],
)
def test_a_split_that_cannot_be_read_from_disk_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        streamed(**changes)


def test_a_label_out_of_range_on_disk_is_named_when_it_is_read():
    def batch(**changes):
        dataset = streamed(**changes)
        return next(training_batches(dataset, batch_size=4, seed=0, first_step=0))

    with pytest.raises(ValueError, match="pixel 3 has the label 3, not within 0 to 2"):
        batch()
    assert sorted(batch(class_names=(*NAMES, "d")).labels) == [0, 1, 2, 3]
    skipping = batch(streaming=Streaming(image_size=1, on_damaged="skip"))
    assert skipping.labels.max() < 3
    assert skipping.skipped.sum() > 0
