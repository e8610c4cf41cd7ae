"""Images drawn from a split: the same ones for the same size and seed."""

import dataclasses

import numpy as np
import pytest

from tests.data.photographs import JPEG, encode, photograph
from vasso_jax import data
from vasso_jax.data.images import resize_and_center_crop

COUNT = 12


def in_memory():
    images = np.arange(COUNT, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    labels = np.arange(COUNT) % 3
    return data.from_arrays("numbers", (images, labels), (images[:5], labels[:5]))


class Photographs:
    """Image i has the label i % 3; one of them may be damaged."""

    def __init__(self, damaged=None):
        self.files = [encode(photograph(40, 50, seed=i)) for i in range(4)] + [JPEG]
        if damaged is not None:
            self.files[damaged] = b"no image"

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return data.EncodedExample(self.files[index], index % 3, f"image {index}")


def on_disk(on_damaged="stop", **kwargs):
    streaming = data.Streaming(image_size=16, on_damaged=on_damaged)
    split = Photographs(**kwargs)
    return data.StreamedDataset(
        "photographs", ("a", "b", "c"), *STATISTICS, split, split, streaming
    )


STATISTICS = ((0.5,) * 3, (0.25,) * 3)


def drawn(count, seed=0, dataset=None, split="train"):
    return data.draw(dataset or in_memory(), split, count, seed)


def test_it_depends_on_the_size_and_the_seed_alone():
    images, labels = drawn(8)
    numbers = images[:, 0, 0, 0]
    assert len({*numbers}) == 8
    np.testing.assert_array_equal(labels, numbers % 3)
    other = data.from_arrays("other", in_memory().train, in_memory().test)
    np.testing.assert_array_equal(drawn(8, dataset=other).images, images)
    assert (drawn(8, seed=1).images != images).any()


def test_fewer_are_the_first_of_more_and_too_many_are_all():
    everything = drawn(10**6).images[:, 0, 0, 0]
    assert sorted(everything) == [*range(COUNT)]
    np.testing.assert_array_equal(drawn(5).images[:, 0, 0, 0], everything[:5])
    assert len(drawn(COUNT, split="test").labels) == 5


def test_images_on_disk_are_cropped_as_those_of_a_test():
    images, labels = drawn(3, dataset=on_disk())
    order = [int(i) for i in drawn(5, dataset=numbered(5)).images[:, 0, 0, 0]]
    assert [*labels] == [index % 3 for index in order[:3]]
    for image, index in zip(images, order, strict=False):
        expected = resize_and_center_crop(Photographs().files[index], 16, round(16 / 0.875))
        np.testing.assert_array_equal(image, expected)


def numbered(count):
    whole = in_memory()
    return dataclasses.replace(whole, train=data.Split(*(x[:count] for x in whole.train)))


def test_damaged_images_are_an_error_or_left_out():
    with pytest.raises(ValueError, match="image 2"):
        drawn(5, dataset=on_disk(damaged=2))
    assert sorted(drawn(5, dataset=on_disk("skip", damaged=2)).labels) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("validation", 1, 0), "numbers has no validation split"),
        (("trian", 1, 0), "there is no split 'trian'"),
        (("train", 0, 0), "examples must be at least 1"),
        (("train", 1, -1), "seed must be at least 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.draw(in_memory(), *arguments)
