"""Random access to the records in tensorflow-datasets' files, by number over all files."""

import bisect
import itertools
import os
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from vasso_jax.files import open_file


class Records(Protocol):
    """Serialized examples. Picklable."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> bytes: ...

    def __getitems__(self, indices: Sequence[int], /) -> Sequence[bytes]: ...


def open_records(file_format: str, paths: Iterable[Any]) -> Records:
    """The records in `paths`, in order.

    Args:
        file_format: `array_record` or `tfrecord`.
        paths: the files of a split.

    Raises:
        ValueError: another format, or a damaged file.
        OSError: a file is missing or cannot be read.
    """
    names = [os.fspath(path) for path in paths]
    if file_format not in ("array_record", "tfrecord"):
        raise ValueError(f"file format {file_format}: only array_record and tfrecord are supported")
    for name in names:
        open_file(name).close()  # its error says why not, and those of array_record do not
    if file_format == "array_record":
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        return ArrayRecordDataSource(names)
    return _TFRecords(names)


class _TFRecords:
    """TFRecord files have no index, so one pass over the lengths in them builds it.

    A record is its length (uint64), a checksum of that (4 bytes), the data, and their checksum.
    Checksums are not verified; damage is noticed only if it breaks the example or its image.
    """

    _HEADER, _FOOTER = 12, 4

    def __init__(self, paths: list[str]):
        self._paths = paths
        self._offsets = [_offsets(path, self._HEADER, self._FOOTER) for path in paths]
        self._ends = list(itertools.accumulate(len(offsets) - 1 for offsets in self._offsets))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> bytes:
        file = bisect.bisect_right(self._ends, index)
        within = index - (self._ends[file - 1] if file else 0)
        start, end = self._offsets[file][within : within + 2]
        with open(self._paths[file], "rb") as stream:
            stream.seek(start + self._HEADER)
            return stream.read(end - start - self._HEADER - self._FOOTER)

    def __getitems__(self, indices: Sequence[int]) -> Sequence[bytes]:
        return [self[index] for index in indices]


def _offsets(path: str, header: int, footer: int) -> np.ndarray:
    """int64 [records + 1]: where each record begins, and the end of the file."""
    offsets = [0]
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        while offsets[-1] < size:
            length = os.pread(stream.fileno(), 8, offsets[-1])
            if len(length) < 8:
                break
            offsets.append(offsets[-1] + header + struct.unpack("<Q", length)[0] + footer)
    if offsets[-1] != size:
        raise ValueError(f"{path} is cut short")
    return np.asarray(offsets, np.int64)
