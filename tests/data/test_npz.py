"""A data set as two NumPy archives: read whole, refused when wrong."""

import io
import re
import zipfile

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
        (
            {},
            {"labels": LABELS + 1},
            r"test.npz: labels run from 1 to 3, the 3 classes.*; labels\[2\] is the first",
        ),
        (
            {"labels": np.array([0, 1, 1 << 31, 1])},
            {},
            r"train.npz: labels\[2\] is 2147483648, which makes 2,147,483,649 classes for 4 images",
        ),
        ({"labels": np.array([0, 1, 2, 1 << 63], np.uint64)}, {}, r"labels\[3\] is 9223372036854"),
        ({"labels": LABELS.astype([("label", "i4")])}, {}, r"labels must be integers.*label"),
        (
            {"class_names": np.array([b"\xe9", b"b", b"c"])},
            {},
            "train.npz: class_names are no text",
        ),
        (
            {"class_names": np.array(["a", "\x1b[31mb", "c"])},
            {},
            r"train.npz: the name of class 1, '\\x1b\[31mb', has",
        ),
        ({"class_names": np.frombuffer(b"\xff" * 12, "<U1")}, {}, "class_names are no text"),
        ({"class_names": np.frombuffer(b"\xff" * 24, "<U2")}, {}, "class 0, .* cannot be printed"),
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


@pytest.mark.parametrize("order", ["big endian", "Fortran order"])
def test_arrays_in_another_order_are_the_same(tmp_path, order):
    big = {"labels": LABELS.astype(">i8"), "class_names": np.array(["a", "b", "c"], ">U1")}
    train = big if order == "big endian" else {"images": np.asfortranarray(IMAGES)}
    dataset = load("npz", dir=write(tmp_path, train=train))
    np.testing.assert_array_equal(dataset.train.images, IMAGES)
    np.testing.assert_array_equal(dataset.train.labels, LABELS)


def write_members(path, compression=zipfile.ZIP_STORED, claimed=None, **members):
    """An archive of these arrays, or encoded members; `claimed`: their size by its directory."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in members.items():
            with archive.open(f"{name}.npy", "w") as file:
                file.write(value) if isinstance(value, bytes) else np.save(file, value)
        for info in archive.filelist:
            info.file_size = claimed or info.file_size


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("claimed", [None, 1 << 50])
@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("images", (10**7, 1000, 1000, 1), "|u1"),
        ("labels", (10**13,), "<i8"),
        ("class_names", (10**13,), "<U0"),
        ("class_names", (10**6,), "<U10"),
    ],
)
def test_an_array_that_claims_more_than_there_is_takes_no_memory(
    tmp_path, name, shape, dtype, compression, claimed
):
    directory, header = write(tmp_path), io.BytesIO()
    fields = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    members = {"images": IMAGES, "labels": LABELS, name: header.getvalue() + bytes(1000)}
    write_members(tmp_path / "train.npz", compression, claimed, **members)
    with pytest.raises(ValueError, match=rf"train.npz .*{name}.npy claims [\d,]+ bytes, more than"):
        load("npz", dir=directory)


def test_what_numpy_does_not_write_is_refused(tmp_path):
    directory = write(tmp_path)
    path = tmp_path / "train.npz"
    write_members(path, zipfile.ZIP_LZMA, images=IMAGES, labels=LABELS)
    with pytest.raises(ValueError, match=r"train.npz .*compressed in a way that NumPy does not"):
        load("npz", dir=directory)
    write_members(path, images=np.lib.format.magic(3, 0) + bytes(100), labels=LABELS)
    with pytest.raises(ValueError, match=r"train.npz .*images.npy has fields, or a format"):
        load("npz", dir=directory)
    write_members(path, images=IMAGES, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train.npz .*images.npy.* is encrypted"):
        load("npz", dir=directory)


def test_other_members_are_not_read(tmp_path):
    directory = write(tmp_path, train={"more": np.array([None], object)})
    assert load("npz", dir=directory).num_train == 4


def test_arrays_in_memory_are_checked_alike():
    dataset = from_arrays("mine", (IMAGES, LABELS), (IMAGES, LABELS.tolist()), ["a", "b", "c"])
    assert (dataset.name, dataset.class_names) == ("mine", ("a", "b", "c"))
    assert dataset.image_shape == (5, 6, 3)
    with pytest.raises(ValueError, match="mine, test: labels run from 1 to 3"):
        from_arrays("mine", (IMAGES, LABELS), (IMAGES, LABELS + 1))
