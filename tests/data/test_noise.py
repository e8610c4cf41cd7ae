"""Label noise: how much, which way, fixed by what, and what stays as it was."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.image_files import make_folder
from vasso_jax.data import ImageDataset, LabelNoise, Split, add_label_noise, load


def dataset(labels, classes, name="any"):
    labels = np.asarray(labels, np.int32)
    split = Split(np.zeros((len(labels), 1, 1, 1), np.uint8), labels)
    return ImageDataset(name, tuple(map(str, range(classes))), (0.5,), (0.5,), split, split)


@given(st.data(), st.integers(2, 12), st.floats(0, 1), st.integers(0, 5))
def test_symmetric_noise_changes_just_the_rate_to_other_valid_classes(data, classes, rate, seed):
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=50))
    clean = dataset(labels, classes)
    noisy, changed = add_label_noise(clean, LabelNoise("symmetric", rate, seed))
    assert changed == round(rate * len(labels))
    assert (noisy.train.labels != clean.train.labels).sum() == changed
    assert noisy.train.labels.dtype == np.int32
    assert set(noisy.train.labels) <= set(range(classes))
    np.testing.assert_array_equal(noisy.test.labels, labels)
    again, _ = add_label_noise(clean, LabelNoise("symmetric", rate, seed))
    np.testing.assert_array_equal(noisy.train.labels, again.train.labels)


def test_symmetric_noise_takes_all_other_classes_alike_and_follows_the_seed():
    clean = dataset(np.zeros(20_000), 5)
    noisy, _ = add_label_noise(clean, LabelNoise("symmetric", 0.5, 0))
    counts = np.bincount(noisy.train.labels, minlength=5)
    assert counts[0] == 10_000
    # Five standard deviations of a binomial count.
    assert np.abs(counts[1:] - 2500).max() < 5 * np.sqrt(10_000 * 0.25 * 0.75)
    other, _ = add_label_noise(clean, LabelNoise("symmetric", 0.5, 1))
    assert (noisy.train.labels != other.train.labels).mean() > 0.4


@pytest.mark.parametrize(
    ("name", "classes", "confusions"),
    [
        # truck as automobile, bird as airplane, deer as horse, cat and dog as one another
        ("cifar10", 10, {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}),
        ("cifar10_n", 10, {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}),
        ("mnist", 10, {2: 7, 3: 8, 5: 6, 6: 5, 7: 1}),
        ("any", 4, {0: 1, 1: 2, 2: 3, 3: 0}),
        # beaver, dolphin, otter, seal, whale; and the last superclass, in parts
        ("cifar100", 100, {4: 30, 30: 55, 55: 72, 72: 95, 95: 4, 85: 89, 89: 41, 41: 69}),
    ],
)
def test_asymmetric_noise_goes_to_the_class_that_looks_alike(name, classes, confusions):
    clean = dataset(np.arange(classes), classes, name)
    noisy, changed = add_label_noise(clean, LabelNoise("asymmetric", 1.0, 0))
    for label, other in confusions.items():
        assert noisy.train.labels[label] == other
    moved = (noisy.train.labels != np.arange(classes)).sum()
    assert changed == moved == (classes if name in ("any", "cifar100") else len(confusions))


def test_streamed_labels_are_replaced_by_the_same_rule(tmp_path):
    clean = load("folder", dir=str(make_folder(tmp_path)))
    noise = LabelNoise("symmetric", 0.5, 3)
    noisy, changed = add_label_noise(clean, noise)
    # As it comes out of a worker process.
    train = pickle.loads(pickle.dumps(noisy.train))
    labels = [train[i].label for i in range(len(train))]
    in_memory, _ = add_label_noise(dataset([0] * 6 + [1] * 6, 2), noise)
    assert labels == in_memory.train.labels.tolist()
    assert changed == 6
    assert train[3].encoded == clean.train[3].encoded
    assert [noisy.test[i].label for i in range(6)] == [0] * 3 + [1] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("symetric", 0.1, 0), "Did you mean symmetric"),
        (("symmetric", 1.5, 0), r"rate of label noise must be in \[0, 1\]"),
        (("symmetric", -0.1, 0), "rate of label noise"),
        (("symmetric", float("nan"), 0), "rate of label noise"),
        (("symmetric", 0.1, -1), "seed of label noise"),
    ],
)
def test_wrong_noise_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelNoise(*arguments)


def test_one_class_cannot_be_mistaken():
    with pytest.raises(ValueError, match="two classes"):
        add_label_noise(dataset([0, 0], 1), LabelNoise("symmetric", 0.5, 0))
