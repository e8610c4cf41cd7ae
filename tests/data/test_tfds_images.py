"""Copies by tensorflow-datasets beyond CIFAR: images of many sizes, other splits and labels."""

import io
import os
import pathlib
import pickle

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from tests import tiny_cifar
from tests.data.image_files import colour, jpeg
from vasso_jax.data import ImageDataset, StreamedDataset, load

FEATURES = {
    "imagenet2012": {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=["ant", "bee"]),
        "file_name": tfds.features.Text(),
    },
    "mnist": {
        "image": tfds.features.Image(shape=(4, 4, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    },
    "cifar10_n": {
        "image": tfds.features.Image(shape=(4, 4, 3)),
        "label": tfds.features.ClassLabel(num_classes=10),
        "worse_label": tfds.features.ClassLabel(num_classes=10),
    },
    "photos": {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(num_classes=3),
        "file_name": tfds.features.Text(),
    },
    "texts": {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)},
}


def prepare(data_dir, name, splits):
    """Writes DATA_DIR/NAME/1.0.0; `splits` are {split: [example, ...]}."""

    class Images(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(FEATURES[name])
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            yield from enumerate(splits[split])

    Images.name = name
    Images(data_dir=data_dir, file_format="array_record").download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return str(data_dir)


def photographs(first, count, label=None):
    return [
        {
            "image": io.BytesIO(jpeg(colour(i), (10 + i, 12))),
            "label": i % 2 if label is None else label,
            "file_name": f"{i}.JPEG",
        }
        for i in range(first, first + count)
    ]


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_images_of_many_sizes_stay_encoded_and_imagenet_is_measured_on_validation(
    tmp_path, file_format
):
    splits = {
        "train": photographs(0, 7),
        "validation": photographs(7, 3),
        "test": photographs(10, 2, label=-1),
    }
    data_dir = prepare(tmp_path, "imagenet2012", splits)
    if file_format == "tfrecord":
        tiny_cifar.convert_to_tfrecord(tmp_path / "imagenet2012/1.0.0")
    dataset = load("imagenet2012", dir=data_dir)
    assert isinstance(dataset, StreamedDataset)
    assert dataset.class_names == ("ant", "bee")
    assert (dataset.num_train, dataset.num_test) == (7, 3)
    for split, numbers in ((dataset.train, range(7)), (dataset.test, range(7, 10))):
        # As it comes out of a worker process.
        split = pickle.loads(pickle.dumps(split))
        examples = {split[i].encoded: split[i].label for i in range(len(split))}
        assert examples == {jpeg(colour(i), (10 + i, 12)): i % 2 for i in numbers}
    assert "image 3 of train in" in dataset.train[3].name


def test_a_grey_set_has_its_own_statistics(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 4, 4, 1)).astype(np.uint8)
    examples = [
        {"image": PIL.Image.fromarray(image[..., 0]), "label": i} for i, image in enumerate(images)
    ]
    dataset = load(
        "mnist", dir=prepare(tmp_path, "mnist", {"train": examples, "test": examples[:2]})
    )
    assert isinstance(dataset, ImageDataset)
    order = np.argsort(dataset.train.labels)
    np.testing.assert_array_equal(dataset.train.images[order], images)
    np.testing.assert_allclose(dataset.mean, [(images / 255).mean()], rtol=1e-12)
    np.testing.assert_allclose(dataset.std, [(images / 255).std()], rtol=1e-12)


def test_human_labels_are_trained_on_and_the_true_ones_measured(tmp_path):
    image = PIL.Image.new("RGB", (4, 4))
    examples = [{"image": image, "label": i, "worse_label": 9 - i} for i in range(3)]
    data_dir = prepare(tmp_path, "cifar10_n", {"train": examples, "test": examples})
    dataset = load("cifar10_n", dir=data_dir, human_labels="worse")
    assert sorted(dataset.train.labels) == [7, 8, 9]
    assert sorted(dataset.test.labels) == [0, 1, 2]
    np.testing.assert_allclose(dataset.mean, np.array([125.3, 123.0, 113.9]) / 255)
    with pytest.raises(ValueError, match="no labels 'aggre_label', only"):
        load("cifar10_n", dir=data_dir, human_labels="aggre")


def test_other_kinds_of_sets_are_refused(tmp_path):
    texts = [{"text": "x", "label": 0}]
    with pytest.raises(ValueError, match=r"texts in .* is no image classification set"):
        load("texts", dir=prepare(tmp_path, "texts", {"train": texts, "test": texts}))
    with pytest.raises(ValueError, match="no split validation, only"):
        load("imagenet2012", dir=prepare(tmp_path, "imagenet2012", {"train": photographs(0, 2)}))


def test_wrong_sizes_in_a_copy_take_no_memory(tmp_path):
    image = PIL.Image.new("L", (4, 4))
    splits = {"train": [{"image": image, "label": 3}], "test": [{"image": image, "label": 1}]}
    features = pathlib.Path(prepare(tmp_path, "mnist", splits), "mnist/1.0.0/features.json")
    whole = features.read_text()
    for old, new, message in (
        ('"10"', '"2147483648"', "has 2,147,483,648 classes, not 1 to 1,000,000"),
        ('"10"', '"0"', "has 0 classes"),
        ('"4"', '"4000000"', r"no room in memory for 1 images of shape \(4000000, 4000000, 1\)"),
        ('"4"', '"5"', r"an image has 4 x 4 pixels, not 5 x 5"),
    ):
        features.write_text(whole.replace(old, new))
        with pytest.raises(ValueError, match=f"{message}"):
            load("mnist", dir=str(tmp_path))
    features.write_text(whole)
    (features.parent / "label.labels.txt").unlink(missing_ok=True)
    os.mkfifo(features.parent / "label.labels.txt")
    with pytest.raises(ValueError, match=r"label\.labels\.txt .*a named pipe"):
        load("mnist", dir=str(tmp_path))


def test_labels_that_cannot_be_are_refused(tmp_path):
    image = PIL.Image.new("L", (4, 4))
    train, test = [{"image": image, "label": 3}], [{"image": image, "label": -1}]
    with pytest.raises(ValueError, match="split test run from -1 to -1, not within 0 to 9"):
        load("mnist", dir=prepare(tmp_path, "mnist", {"train": train, "test": test}))
    splits = {"train": photographs(0, 2), "validation": photographs(2, 2, label=-1)}
    with pytest.raises(ValueError, match="split validation run from -1"):
        load("imagenet2012", dir=prepare(tmp_path, "imagenet2012", splits))


def test_a_half_prepared_copy_is_none(tmp_path):
    prepare(tmp_path, "mnist", {"train": [{"image": PIL.Image.new("L", (4, 4)), "label": 0}]})
    (tmp_path / "mnist/1.0.0").rename(tmp_path / "mnist/incomplete.ABC_1.0.0")
    with pytest.raises(FileNotFoundError, match="no prepared copy of mnist"):
        load("mnist", dir=str(tmp_path))


def test_a_tfrecord_file_cut_short_is_named(tmp_path):
    splits = {"train": photographs(0, 3), "validation": photographs(3, 1)}
    data_dir = prepare(tmp_path, "imagenet2012", splits)
    tiny_cifar.convert_to_tfrecord(tmp_path / "imagenet2012/1.0.0")
    (shard,) = (tmp_path / "imagenet2012/1.0.0").glob("*train*")
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(ValueError, match="is cut short"):
        load("imagenet2012", dir=data_dir)


@pytest.mark.parametrize("name", ["mnist", "photos"])
def test_a_validation_split_beside_the_test_is_kept_apart(tmp_path, name):
    def examples(count, label):
        if name == "mnist":
            return [{"image": PIL.Image.new("L", (4, 4)), "label": label}] * count
        return photographs(0, count, label)

    splits = {"train": examples(3, 0), "validation": examples(2, 1), "test": examples(1, 2)}
    dataset = load(name, dir=prepare(tmp_path, name, splits))
    assert isinstance(dataset, ImageDataset) == (name == "mnist")
    assert (dataset.num_train, dataset.num_validation, dataset.num_test) == (3, 2, 1)
    labels = [
        split.labels[0] if name == "mnist" else split[0].label
        for split in (dataset.train, dataset.validation, dataset.test)
    ]
    assert labels == [0, 1, 2]
