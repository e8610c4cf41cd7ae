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


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_a_file_without_permission_is_named(tmp_path, file_format, monkeypatch):
    path = write(tmp_path / "x", [b"a"])

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    # Not by its mode, which does not stop root.
    monkeypatch.setattr("vasso_jax.files.open", refuse, raising=False)
    with pytest.raises(PermissionError, match=f"^{path} cannot be read .Permission denied.$"):
        open_records(file_format, [path])


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match="array_record and tfrecord are supported"):
        open_records("riegeli", [tmp_path / "x"])
