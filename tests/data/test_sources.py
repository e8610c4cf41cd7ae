"""Digits, and copies prepared by tensorflow-datasets in both file formats, whole and damaged."""

import gzip
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests import tiny_cifar
from vasso_jax.data import DATASETS, load


def test_digits_split_is_disjoint_complete_and_fixed_by_the_seed():
    digits = load("digits")
    assert digits.train.images.shape == (1438, 8, 8, 1)
    assert digits.test.images.shape == (359, 8, 8, 1)
    assert digits.train.images.dtype == np.uint8
    assert digits.train.images.max() == 255
    assert digits.class_names == tuple("0123456789")
    again, other = load("digits"), load("digits", split_seed=1)
    np.testing.assert_array_equal(digits.test.images, again.test.images)
    assert not np.array_equal(digits.test.images, other.test.images)
    both = np.concatenate([digits.train.images, digits.test.images]).reshape(1797, -1)
    others = np.concatenate([other.train.images, other.test.images]).reshape(1797, -1)
    np.testing.assert_array_equal(both[np.lexsort(both.T)], others[np.lexsort(others.T)])


@pytest.mark.parametrize("moved", [False, True], ids=["in its package", "moved in a new version"])
def test_digits_are_those_of_scikit_learn(moved, monkeypatch):
    from sklearn.datasets import load_digits

    wanted = load_digits()
    if moved:
        monkeypatch.setattr("vasso_jax.data.sources.digits.find_spec", lambda name: None)
    digits = load("digits")
    parts = (digits.test, digits.train)
    images, labels = (np.concatenate([x[i] for x in parts]) for i in range(2))
    order = np.random.default_rng(0).permutation(1797)
    np.testing.assert_array_equal(labels, wanted.target[order])
    np.testing.assert_array_equal(
        images[..., 0], np.round(wanted.images[order] * (255 / 16)).astype(np.uint8)
    )


@pytest.mark.parametrize(
    "damage", [b"", b"\x1f\x8b\x08", b"not compressed", gzip.compress(b"1,2\n3,4\n", mtime=0)]
)
def test_digits_that_cannot_be_read_are_one_message(damage, tmp_path, monkeypatch):
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("vasso_jax.data.sources.digits.find_spec", lambda name: package)
    (tmp_path / "datasets/data").mkdir(parents=True)
    (tmp_path / "datasets/data/digits.csv.gz").write_bytes(damage)
    assert load("digits").num_train == 1438  # scikit-learn itself can read its own
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"digits of scikit-learn cannot be read.*pip install"):
        load("digits")


def by_image(arrays):
    """Sorted by content: the writer shuffles."""
    order = np.lexsort(arrays[0].reshape(len(arrays[0]), -1).T)
    return arrays[0][order], arrays[1][order]


@pytest.fixture
def copy(tmp_path):
    return tmp_path, tiny_cifar.prepare(tmp_path)


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_a_prepared_copy_is_read_whole(copy, file_format):
    data_dir, arrays = copy
    if file_format == "tfrecord":
        tiny_cifar.convert_to_tfrecord(data_dir / "cifar10/3.0.2")
        assert list(data_dir.rglob("*.tfrecord*"))
        assert not list(data_dir.rglob("*.array_record*"))
    dataset = load("cifar10", dir=str(data_dir))
    for split in ("train", "test"):
        for actual, expected in zip(
            by_image(getattr(dataset, split)), by_image(arrays[split]), strict=True
        ):
            np.testing.assert_array_equal(actual, expected)
    assert dataset.class_names == tiny_cifar.CLASS_NAMES
    np.testing.assert_allclose(dataset.mean, np.array([125.3, 123.0, 113.9]) / 255)


def test_the_newest_version_is_taken_and_the_environment_names_the_folder(copy, monkeypatch):
    data_dir, _ = copy
    stale = data_dir / "cifar10/3.0.1"
    stale.mkdir()
    (stale / "dataset_info.json").write_text("{}")
    (data_dir / "cifar10/incomplete.X_3.0.3").mkdir()
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert len(load("cifar10").train.images) == 7


def test_a_missing_copy_says_where_it_looked_and_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load("cifar100", dir=str(tmp_path))
    for part in (
        f"{tmp_path}/cifar100",
        "vasso-jax prepare cifar100",
        "digits_vasso",
        "--config.data.dir=DIR",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("damage", ["truncated", "missing shard", "bad json", "unknown format"])
def test_a_damaged_copy_is_named(copy, damage):
    data_dir, _ = copy
    version_dir = data_dir / "cifar10/3.0.2"
    (shard,) = version_dir.glob("*train*")
    info = version_dir / "dataset_info.json"
    if damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:1000])
    elif damage == "missing shard":
        shard.unlink()
    elif damage == "bad json":
        info.write_text("{")
    else:
        info.write_text(info.read_text().replace('"array_record"', '"riegeli"'))
    with pytest.raises(ValueError, match=re.escape(str(version_dir))):
        load("cifar10", dir=str(data_dir))


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(FileNotFoundError, match="Did you mean cifar10"):
        load("cifar01")


def test_a_field_of_streamed_sets_is_refused_for_images_of_one_size(copy):
    with pytest.raises(ValueError, match=r"data\.image_size has no effect on cifar10"):
        load("cifar10", dir=str(copy[0]), image_size=64)


def test_every_source_of_its_own_is_among_the_known_names():
    assert {"digits", "folder", "npz", "cifar10"} <= {*DATASETS}
