"""Folders of small images of one size: read once, as arrays."""

import numpy as np
import pytest
from PIL import Image

from vasso_jax.data import ImageDataset, StreamedDataset, load


def write(root, shape, train=6, test=2):
    """Random images; returns what the splits must hold, by class and then by name."""
    rng = np.random.default_rng(0)
    expected = []
    for split, count in (("train", train), ("test", test)):
        images = []
        for name in ("a", "b"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, shape).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
                images.append(pixels)
        expected.append((np.stack(images), np.repeat([0, 1], count)))
    return expected


@pytest.mark.parametrize("shape", [(28, 28), (20, 30, 3), (96, 96, 3)])
def test_they_are_held_as_they_are(tmp_path, shape):
    expected = write(tmp_path, shape)
    dataset = load("folder", dir=str(tmp_path))
    assert isinstance(dataset, ImageDataset)
    for split, (images, labels) in zip((dataset.train, dataset.test), expected, strict=True):
        assert split.images.ndim == 4
        np.testing.assert_array_equal(split.images.reshape(images.shape), images)
        np.testing.assert_array_equal(split.labels, labels)
    assert dataset.class_names == ("a", "b")
    mean = expected[0][0].reshape(-1, dataset.image_shape[-1]).mean(0) / 255
    np.testing.assert_allclose(dataset.mean, mean, rtol=1e-12)


def test_large_ones_are_read_in_every_epoch_and_so_are_those_with_a_field_for_it(tmp_path):
    write(tmp_path / "large", (97, 97))
    assert isinstance(load("folder", dir=str(tmp_path / "large")), StreamedDataset)
    write(tmp_path / "small", (28, 28))
    folder = str(tmp_path / "small")
    for field in ({"image_size": 28}, {"workers": 1}, {"on_damaged": "skip"}):
        assert isinstance(load("folder", dir=folder, **field), StreamedDataset)


def test_what_would_take_too_much_memory_is_read_in_every_epoch(tmp_path, monkeypatch):
    write(tmp_path, (8, 8))  # 16 images of 64 bytes
    for most, kind in ((16 * 64, ImageDataset), (16 * 64 - 1, StreamedDataset)):
        monkeypatch.setattr("vasso_jax.data.sources.small_images._MOST_BYTES", most)
        assert isinstance(load("folder", dir=str(tmp_path)), kind)


def test_grey_and_coloured_ones_together_are_coloured(tmp_path):
    ((images, _), _) = write(tmp_path, (8, 8))
    Image.new("RGB", (8, 8), (9, 8, 7)).save(tmp_path / "train/b/0.png")
    dataset = load("folder", dir=str(tmp_path))
    assert dataset.image_shape == (8, 8, 3)
    assert tuple(dataset.train.images[6, 0, 0]) == (9, 8, 7)
    np.testing.assert_array_equal(dataset.train.images[0], np.repeat(images[0][..., None], 3, -1))


def test_a_coloured_one_among_grey_ones_becomes_grey(tmp_path, monkeypatch):
    monkeypatch.setattr("vasso_jax.data.sources.small_images._SAMPLES", 2)  # the first and the last
    write(tmp_path, (8, 8))
    colour = Image.new("RGB", (8, 8), (200, 100, 50))
    colour.save(tmp_path / "train/a/1.png")
    (tmp_path / "train/a/2.png").unlink()
    colour.save(tmp_path / "train/a/2.jpg", quality=100)
    dataset = load("folder", dir=str(tmp_path))
    assert dataset.image_shape == (8, 8, 1)
    # 0.299 R + 0.587 G + 0.114 B
    np.testing.assert_array_equal(dataset.train.images[1], 124)
    np.testing.assert_allclose(dataset.train.images[2], 124, atol=1)


def test_one_that_is_damaged_or_larger_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("vasso_jax.data.sources.small_images._SAMPLES", 2)  # the first and the last
    write(tmp_path, (8, 8), train=3)
    file = tmp_path / "train/a/1.png"
    Image.new("L", (9, 8)).save(file)
    with pytest.raises(ValueError, match=r"1\.png has 8x9 pixels, others have 8x8: give .*size"):
        load("folder", dir=str(tmp_path))
    file.write_text("no image")
    with pytest.raises(ValueError, match=r"1\.png is not an image"):
        load("folder", dir=str(tmp_path))


def test_grey_ones_of_16_bits_have_one_channel(tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            (folder / "0.ppm").write_bytes(b"P5 1 2 65535\n\x12\xff\x34\x00")
    dataset = load("folder", dir=str(tmp_path))
    np.testing.assert_array_equal(dataset.train.images, [[[[0x12]], [[0x34]]]] * 2)
