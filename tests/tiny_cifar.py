"""A prepared tensorflow-datasets copy of `cifar10` with a few random images, made on the spot."""

import json
import pathlib
import struct

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

SHAPE = (32, 32, 3)
CLASS_NAMES = tuple("abcdefghij")


class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """As the genuine builder, with the images of `arrays`."""

    VERSION = tfds.core.Version("3.0.2")

    def __init__(self, arrays, **kwargs):
        self.arrays = arrays
        super().__init__(**kwargs)

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=SHAPE),
                    "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.arrays}

    def _generate_examples(self, split):
        for i, (image, label) in enumerate(zip(*self.arrays[split], strict=True)):
            yield (
                i,
                {"id": f"{split}_{i}", "image": PIL.Image.fromarray(image), "label": int(label)},
            )


def prepare(data_dir, train=7, test=3):
    """Writes data_dir/cifar10/3.0.2 in array_record format.

    Returns:
        {"train": (images uint8 [train, 32, 32, 3], labels [train]), "test": ...}
    """
    rng = np.random.default_rng(0)
    arrays = {
        split: (rng.integers(0, 256, (n, *SHAPE)).astype(np.uint8), rng.integers(0, 10, n))
        for split, n in (("train", train), ("test", test))
    }
    Cifar10(arrays, data_dir=data_dir, file_format="array_record").download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return arrays


def convert_to_tfrecord(version_dir):
    """Rewrites a prepared copy in TFRecord format (with empty checksums)."""
    builder = tfds.builder_from_directory(version_dir)
    for split in builder.info.splits:
        source = builder.as_data_source(split).data_source
        for path in builder.info.splits[split].filepaths:
            with open(str(path).replace("array_record", "tfrecord"), "wb") as file:
                for record in source.__getitems__(range(len(source))):
                    file.write(struct.pack("<QI", len(record), 0) + record + bytes(4))
            pathlib.Path(path).unlink()
    info_path = version_dir / "dataset_info.json"
    info = json.loads(info_path.read_text())
    info["fileFormat"] = "tfrecord"
    for split in info["splits"]:
        split["filepathTemplate"] = split["filepathTemplate"].replace("array_record", "tfrecord")
    info_path.write_text(json.dumps(info))
