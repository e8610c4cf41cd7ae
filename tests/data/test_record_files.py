"""Records of several TFRecord files, by number over all of them."""

import pickle
import struct

import pytest

from vasso_jax.data.sources.record_files import open_records


def write(path, records):
    path.write_bytes(b"".join(struct.pack("<QI", len(r), 0) + r + bytes(4) for r in records))
    return path


def test_numbers_run_over_all_files_and_empty_ones_too(tmp_path):
    contents = [[b"a", b"bb"], [], [b"", b"dddd"], [b"e"]]
    paths = [write(tmp_path / f"{i}.tfrecord", content) for i, content in enumerate(contents)]
    records = pickle.loads(pickle.dumps(open_records("tfrecord", paths)))
    expected = [b"a", b"bb", b"", b"dddd", b"e"]
    assert len(records) == 5
    assert [records[i] for i in range(5)] == expected
    assert records.__getitems__([4, 2, 1]) == [b"e", b"", b"bb"]


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match="array_record and tfrecord are supported"):
        open_records("riegeli", [tmp_path / "x"])
