"""A data set as two NumPy archives: read whole, refused when wrong."""

import re

import numpy as np
import pytest

from vasso_jax.data import from_arrays, load

IMAGES = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)
LABELS = np.array([0, 1, 2, 1])


def write(folder, train=None, test=None):
    for name, other in (("train", train), ("test", test)):
        np.savez(folder / f"{name}.npz", **({"images": IMAGES, "labels": LABELS} | (other or {})))
    return str(folder)


def test_arrays_names_and_statistics(tmp_path):
    directory = write(tmp_path, train={"class_names": np.array(["a", "b", "c", "d"])})
    dataset = load("npz", dir=directory)
    np.testing.assert_array_equal(dataset.train.images, IMAGES)
    np.testing.assert_array_equal(dataset.test.labels, LABELS)
    assert dataset.train.labels.dtype == np.int32
    assert dataset.class_names == ("a", "b", "c", "d")
    np.testing.assert_allclose(dataset.mean, (IMAGES / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(dataset.std, (IMAGES / 255).std((0, 1, 2)), rtol=1e-12)
    assert load("npz", dir=write(tmp_path)).class_names == ("0", "1", "2")
    images = np.dstack([IMAGES[0], np.full((5, 6, 1), 255, np.uint8)])[None].repeat(4, 0)
    dataset = load("npz", dir=write(tmp_path, {"images": images}, {"images": images}))
    assert (dataset.mean[3], dataset.std[3]) == (1, 1)  # nothing to divide by


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ({"images": IMAGES.astype(np.float32)}, {}, "train.npz: images must be uint8.*float32"),
        ({}, {"images": IMAGES[..., 0]}, r"test.npz: images must be \[N, H, W, C\].*\(4, 5, 6\)"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, {}, r"is \[N, C, H, W\]"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, {}, r"got shape \(0, 5, 6, 3\)"),
        ({"images": np.array([None, "x"], object)}, {}, "arrays of numbers only"),
        ({"labels": np.array(["a", "b", "c", "d"])}, {}, "labels must be integers"),
        ({"labels": LABELS[:3]}, {}, r"got int64 of shape \(3,\) for 4 images"),
        ({"class_names": np.array("a")}, {}, r"class_names must be strings \[classes\].*\(\)"),
        ({"class_names": np.arange(4)}, {}, "class_names must be strings"),
        ({"class_names": np.array(["a"])}, {}, "from 0 to 2, the 1 classes"),
        ({"labels": LABELS - 1}, {}, "train.npz: labels run from -1 to 1"),
        ({}, {"labels": LABELS + 1}, "test.npz: labels run from 1 to 3, the 3 classes"),
        ({}, {"images": IMAGES[:, :4]}, r"shape \(5, 6, 3\), .*of \(4, 6, 3\)"),
    ],
)
def test_a_wrong_array_is_named(tmp_path, train, test, message):
    with pytest.raises(ValueError, match=message):
        load("npz", dir=write(tmp_path, train, test))


def test_a_missing_array_a_missing_and_a_damaged_file_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"no {tmp_path}/train.npz")):
        load("npz", dir=str(tmp_path))
    write(tmp_path)
    np.savez(tmp_path / "train.npz", images=IMAGES, label=LABELS)
    with pytest.raises(ValueError, match="has no array 'labels', only"):
        load("npz", dir=str(tmp_path))
    (tmp_path / "train.npz").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(ValueError, match=r"train\.npz cannot be read"):
        load("npz", dir=str(tmp_path))
    rng = np.random.default_rng(0)
    np.savez_compressed(tmp_path / "train.npz", images=rng.integers(0, 9, 5000), labels=LABELS)
    damaged = bytearray((tmp_path / "train.npz").read_bytes())
    damaged[1000:1200] = bytes(200)
    (tmp_path / "train.npz").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"train\.npz cannot be read"):
        load("npz", dir=str(tmp_path))
    np.save(tmp_path / "array.npy", IMAGES)
    (tmp_path / "array.npy").rename(tmp_path / "train.npz")
    with pytest.raises(ValueError, match=r"train\.npz cannot be read"):
        load("npz", dir=str(tmp_path))


def test_arrays_in_memory_are_checked_alike():
    dataset = from_arrays("mine", (IMAGES, LABELS), (IMAGES, LABELS.tolist()), ["a", "b", "c"])
    assert (dataset.name, dataset.class_names) == ("mine", ("a", "b", "c"))
    assert dataset.image_shape == (5, 6, 3)
    with pytest.raises(ValueError, match="mine, test: labels run from 1 to 3"):
        from_arrays("mine", (IMAGES, LABELS), (IMAGES, LABELS + 1))
