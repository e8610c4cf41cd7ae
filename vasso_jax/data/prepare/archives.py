"""Reads files in a tar archive: into memory, as nothing in an archive is ever unpacked."""

import pathlib
import tarfile
from collections.abc import Collection
from typing import BinaryIO

from vasso_jax.files import open_file, reason

# Together, unpacked; either archive of CIFAR has 185 MB.
_MOST_BYTES = 1 << 30


def read_members(archive: pathlib.Path, names: Collection[str]) -> dict[str, bytes]:
    """The content of files in an archive.

    Args:
        archive: a tar file, compressed or not.
        names: of the files, without folders. Links and devices are no files.

    Raises:
        ValueError: one is missing, or the archive is damaged or too large.
        OSError: the archive cannot be read.
    """
    with open_file(archive) as file:
        try:
            found = _found(file, names)
        except Exception as error:  # tarfile and what it decompresses with raise many kinds
            raise ValueError(f"{archive} is damaged ({reason(error)})") from error
    if missing := sorted({*names} - found.keys()):
        raise ValueError(f"{archive} lacks {', '.join(missing)}")
    return found


def _found(file: BinaryIO, names: Collection[str]) -> dict[str, bytes]:
    found, total = {}, 0
    with tarfile.open(fileobj=file) as tar:
        for member in tar:
            # Of a sparse file, this is what would be read, not what the archive holds.
            total += member.size
            if member.size < 0 or total > _MOST_BYTES:
                raise ValueError(f"it unpacks to more than {_MOST_BYTES:,} bytes")
            name = pathlib.PurePosixPath(member.name).name
            if name in names and member.isfile() and (content := tar.extractfile(member)):
                found[name] = content.read()
    return found
