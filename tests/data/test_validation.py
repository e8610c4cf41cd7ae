"""Images held out of the training split: how many, which, fixed by what; splits of a set's own."""

import pickle

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.data.image_files import colour, jpeg, make_folder
from vasso_jax.data import (
    EncodedExample,
    ImageDataset,
    LabelNoise,
    Split,
    StreamedDataset,
    Validation,
    add_label_noise,
    hold_out,
    load,
)


def dataset(labels, validation=None):
    """Image i has the one pixel i."""
    labels = np.asarray(labels, np.int32)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    split, names = Split(images, labels), tuple(map(str, range(labels.max() + 1)))
    return ImageDataset("any", names, (0.5,), (0.5,), split, split, validation)


class Unlabelled:
    """A split on disk whose labels are not known in advance."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return EncodedExample(bytes([index]), index % 2, f"image {index}")


labels_and_share = st.tuples(
    st.lists(st.integers(0, 5), min_size=2, max_size=100), st.floats(0.01, 0.99)
)


@given(labels_and_share, st.integers(0, 5))
@example(([0, 0, 0, 1, 2, 3, 4, 5], 1 / 3), 0)  # the share of class 0 is one image exactly
def test_every_class_gives_its_share_and_keeps_an_image(drawn, seed):
    labels, share = np.asarray(drawn[0]), drawn[1]
    counts = np.bincount(labels)
    # Otherwise refused, which another test shows.
    assume(1 <= round(share * len(labels)) < len(labels) and counts.max() > 1)
    before = dataset(labels)
    after = hold_out(before, Validation(share, seed))
    train, held_out = (split.images.ravel() for split in (after.train, after.validation))
    assert sorted([*train, *held_out]) == list(range(len(labels)))
    for split in (after.train, after.validation):
        np.testing.assert_array_equal(split.labels, labels[split.images.ravel()])
    taken = np.bincount(after.validation.labels, minlength=len(counts))
    assert (taken[counts > 0] < counts[counts > 0]).all()
    assert (np.abs(taken - share * counts) < 1 + 1e-9).all()
    # All together as many as the share says, unless classes of few images cannot give them; then
    # each gives one image more than the whole part of its share, if it has it.
    missing = round(share * len(labels)) - taken.sum()
    most = np.minimum(np.floor(share * counts) + 1, counts - 1)
    assert missing == 0 or (taken == most)[counts > 0].all()
    assert after.test is before.test
    assert (after.mean, after.num_validation) == (before.mean, taken.sum())
    again = hold_out(before, Validation(share, seed))
    np.testing.assert_array_equal(again.train.images, after.train.images)


def test_the_draw_follows_its_seed_and_reaches_every_image():
    seen = [hold_out(dataset([0, 1] * 10), Validation(0.5, seed)) for seed in range(20)]
    chosen = [frozenset(each.validation.images.ravel().tolist()) for each in seen]
    assert len({*chosen}) > 15
    assert frozenset.union(*chosen) == frozenset(range(20))


def test_of_unknown_labels_images_are_drawn_without_regard_to_them():
    before = StreamedDataset("any", ("a", "b"), *(((0.5,) * 3),) * 2, Unlabelled(40), Unlabelled(4))
    after = hold_out(before, Validation(0.25))
    held_out = [after.validation[i].encoded[0] for i in range(len(after.validation))]
    kept = [after.train[i].encoded[0] for i in range(len(after.train))]
    assert sorted(held_out + kept) == list(range(40))
    assert after.num_validation == len(held_out) == 10
    assert kept == sorted(kept)


def test_streamed_images_keep_their_classes_and_names(tmp_path):
    before = load("folder", dir=str(make_folder(tmp_path, train=6)))
    after = hold_out(before, Validation(0.5))
    after = pickle.loads(pickle.dumps(after))  # as for worker processes
    examples = [after.validation[i] for i in range(6)]
    assert [example.label for example in examples] == [0] * 3 + [1] * 3
    originals = {before.train[i].name: before.train[i] for i in range(12)}
    assert all(originals[example.name] == example for example in examples)
    assert {e.name for e in examples} | {after.train[i].name for i in range(6)} == {*originals}


@pytest.mark.parametrize("streamed", [False, True])
def test_held_out_images_have_the_noise_of_the_others(tmp_path, streamed):
    clean = dataset([0, 1] * 50)
    if streamed:
        clean = load("folder", dir=str(make_folder(tmp_path, train=50)))
    noisy, _ = add_label_noise(clean, LabelNoise("symmetric", 0.5))

    def labels(split):
        return [split[i].label for i in range(len(split))] if streamed else split.labels.tolist()

    both = hold_out(noisy, Validation(0.2))
    assert sorted(labels(both.train) + labels(both.validation)) == sorted(labels(noisy.train))
    # Drawn class by class, of the labels that there are.
    share = sum(labels(noisy.train)) / 100
    assert sum(labels(both.validation)) == pytest.approx(20 * share, abs=1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_of_the_same_seed_is_as_frequent_among_them(seed):
    """Image i has the number i, in two bytes."""
    numbers = np.arange(10_000, dtype=np.uint16)
    images = numbers.view(np.uint8).reshape(-1, 1, 2, 1)
    split, names = Split(images, (numbers % 10).astype(np.int32)), tuple("abcdefghij")
    clean = ImageDataset("any", names, (0.5,), (0.5,), split, split)
    noisy, _ = add_label_noise(clean, LabelNoise("symmetric", 0.2, seed))
    held_out = hold_out(noisy, Validation(0.2, seed)).validation
    found = np.ascontiguousarray(held_out.images.reshape(-1, 2)).view(np.uint16).ravel()
    wrong = (held_out.labels != found % 10).mean()
    # Five standard deviations of a share of 2,000.
    assert wrong == pytest.approx(0.2, abs=5 * (0.2 * 0.8 / 2000) ** 0.5)


@pytest.mark.parametrize(
    ("labels", "share", "message"),
    [
        ([0, 1, 0, 1], 0.1, "leaves 4 for training and 0 for validation"),
        ([0, 1, 2, 3], 0.5, "leaves 4 for training and 0 for validation"),
    ],
)
def test_empty_splits_are_refused(labels, share, message):
    with pytest.raises(ValueError, match=message):
        hold_out(dataset(labels), Validation(share))


@pytest.mark.parametrize(
    ("share", "seed"), [(0, 0), (1, 0), (-0.5, 0), (float("nan"), 0), (0.5, -1)]
)
def test_values_out_of_range_are_refused(share, seed):
    with pytest.raises(ValueError, match="must be"):
        Validation(share, seed)


def test_a_split_of_its_own_is_not_drawn_again():
    own = dataset([0, 1], validation=dataset([1, 0]).test)
    with pytest.raises(ValueError, match="any has a validation split of its own"):
        hold_out(own, Validation(0.5))


def test_an_archive_may_have_a_third_file(tmp_path):
    for name, value in (("train", 1), ("test", 2), ("validation", 3)):
        images = np.full((4, 2, 2, 1), value, np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=[0, 1, 0, 1])
    loaded = load("npz", dir=str(tmp_path))
    splits = (loaded.train, loaded.test, loaded.validation)
    assert [split.images.max() for split in splits] == [1, 2, 3]
    np.savez(tmp_path / "validation.npz", images=images[:, :1], labels=[0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"validation\.npz of \(1, 2, 1\)"):
        load("npz", dir=str(tmp_path))


def test_small_images_in_three_folders_are_held(tmp_path):
    make_folder(tmp_path, train=2, val=1)
    for file in sorted(tmp_path.rglob("*.jpg")):
        file.write_bytes(jpeg(colour(len(file.read_bytes())), (24, 24)))
    (tmp_path / "test/bee").mkdir(parents=True)
    (tmp_path / "test/bee/0.jpg").write_bytes(jpeg((255, 255, 255), (24, 24)))
    loaded = load("folder", dir=str(tmp_path))
    assert isinstance(loaded, ImageDataset)
    assert (loaded.num_train, loaded.num_validation, loaded.num_test) == (4, 2, 1)
    assert loaded.test.images.min() == 255
    assert loaded.test.labels.tolist() == [1]
