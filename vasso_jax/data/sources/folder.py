"""A folder of image files in torchvision's layout: train/CLASS/*, val/CLASS/*, test/CLASS/*."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from vasso_jax.data.checks import valid_names
from vasso_jax.data.datasets import (
    IMAGENET_STATISTICS,
    EncodedExample,
    ImageDataset,
    StreamedDataset,
    Streaming,
)
from vasso_jax.data.images import SUFFIXES
from vasso_jax.data.sources.small_images import common_shape, read_all
from vasso_jax.data.sources.source import Source
from vasso_jax.files import read_file
from vasso_jax.names import expanded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder(Streaming, Source):
    """Image files of your own: DIR/train/CLASS/*, and DIR/val/CLASS/* or DIR/test/CLASS/*.

    One of the latter two is what to test on. Where there are both, `val` is the validation split.
    Small images that are all of one size (up to 96 pixels) are read once, and neither resized nor
    cropped, unless one of the fields that say how they are read from disk is set.

    Attributes:
        dir: folder that holds `train` (DIR above).
    """

    dir: str

    def load(self) -> ImageDataset | StreamedDataset:
        """Lists the files, and reads them if they are small.

        Raises:
            ValueError: there is a class or file that does not belong there, or a small image is
                damaged or has another size.
            OSError: a folder or a small image is missing or cannot be read.
        """
        directory = expanded(self.dir).absolute()
        names = valid_names(str(directory / "train"), class_folders(directory / "train"))
        # The folder test of ImageNet, beside val, has no classes.
        further = [split for split in ("test", "val") if _folders_in(directory / split)] or ["val"]
        splits = [FolderSplit(directory / split, names) for split in ("train", *further)]
        if self._as_by_default() and (shape := common_shape(splits)):
            return read_all("folder", names, splits, shape)
        train, test, *validation = splits
        return StreamedDataset(
            "folder", names, *IMAGENET_STATISTICS, train, test, self, *validation
        )

    def _as_by_default(self) -> bool:
        defaults = Streaming()
        fields = dataclasses.fields(Streaming)
        return all(getattr(self, f.name) == getattr(defaults, f.name) for f in fields)


class FolderSplit:
    """The images under DIRECTORY/CLASS, sorted by class name, then by file name.

    Attributes:
        labels: int32 [N].
    """

    def __init__(self, directory: pathlib.Path, class_names: Sequence[str]):
        """Lists the files; none is opened.

        Args:
            directory: holds one folder per class and, besides hidden files, nothing else.
            class_names: the known classes, by label.

        Raises:
            ValueError: an unknown class, a class without images, or a file that is no image.
            OSError: a folder cannot be read.
        """
        self._directory = str(directory)
        files: list[str] = []
        labels: list[int] = []
        for name in class_folders(directory):
            if name not in class_names:
                raise ValueError(f"{directory / name}: no class of that name in the training split")
            own = [f"{name}/{file}" for file in _listing(directory / name)]
            for file in own:
                if pathlib.PurePath(file).suffix.lower() not in SUFFIXES:
                    raise ValueError(
                        f"{directory / file} is no image file ({', '.join(sorted(SUFFIXES))}): "
                        "move it elsewhere"
                    )
            if not own:
                raise ValueError(f"the class folder {directory / name} holds no images")
            files += own
            labels += [class_names.index(name)] * len(own)
        self._files = files
        self.labels = np.asarray(labels, np.int32)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> EncodedExample:
        # Without pathlib, which takes longer than to read a small file.
        path = os.path.join(self._directory, self._files[index])
        return EncodedExample(read_file(path), int(self.labels[index]), path)


def class_folders(directory: pathlib.Path) -> tuple[str, ...]:
    """The names of the class folders in `directory`, sorted.

    Raises:
        FileNotFoundError: there are none.
        OSError: the folder cannot be read.
    """
    names = _folders_in(directory)
    if not names:
        raise FileNotFoundError(
            f"no class folders in {directory}: the data set folder needs "
            "DIR/train/CLASS/IMAGE and DIR/val/CLASS/IMAGE (or DIR/test/CLASS/IMAGE)"
        )
    return tuple(names)


def _folders_in(directory: pathlib.Path) -> list[str]:
    """The names of the folders in a directory, which need not exist, sorted."""
    names = _listing(directory) if directory.is_dir() else []
    return [name for name in names if (directory / name).is_dir()]


def _listing(directory: pathlib.Path) -> list[str]:
    """The entries of a directory, sorted, without hidden ones."""
    try:
        return sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except OSError as error:
        raise OSError(f"{directory} cannot be read ({error.strerror})") from error
