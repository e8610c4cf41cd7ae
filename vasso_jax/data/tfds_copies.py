"""Where the copies prepared by tensorflow-datasets are."""

import os
import pathlib

from vasso_jax.names import expanded


def tfds_root(data_dir: str = "") -> pathlib.Path:
    """The folder of the copies: `data_dir`, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    root = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return expanded(root).absolute()


def newest_copy(name: str, data_dir: str) -> pathlib.Path | None:
    """The folder of the newest prepared version of `name` in `tfds_root`; None if there is none."""
    versions = [path.parent for path in (tfds_root(data_dir) / name).glob("*/dataset_info.json")]
    versions = [path for path in versions if path.name.replace(".", "").isdigit()]
    return max(versions, key=lambda path: tuple(map(int, path.name.split("."))), default=None)
