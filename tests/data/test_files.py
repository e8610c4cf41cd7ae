"""Files from outside that are no files: refused before they are opened, which might never end."""

import os
import socket

import pytest

from tests.data.image_files import make_folder
from tests.data.test_record_files import write
from vasso_jax.data import load
from vasso_jax.data.files import open_file, read_file, reason
from vasso_jax.data.prepare.downloading import sha256_of
from vasso_jax.data.sources.record_files import open_records
from vasso_jax.inference import Preprocessing


@pytest.mark.parametrize("read", [open_file, read_file, sha256_of])
def test_what_is_no_file_is_named(tmp_path, read, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        for path, kind in (
            ("pipe", "a named pipe"),
            ("socket", "a socket"),
            (str(tmp_path), "a folder"),
            ("/dev/zero", "a device"),
        ):
            with pytest.raises(OSError, match=rf"^{path} cannot be read \(it is {kind}, no file\)"):
                read(path)
    with pytest.raises(FileNotFoundError, match=r"^none cannot be read \(No such file"):
        read("none")


def test_a_link_to_a_file_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link") == b"content"


def test_no_reader_waits_for_a_named_pipe(tmp_path):
    def piped(path):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        return pytest.raises((ValueError, OSError), match=f"{path}.* is a named pipe")

    with piped(tmp_path / "train.npz"):
        load("npz", dir=str(tmp_path))
    with piped(tmp_path / "x.tfrecord"):
        open_records("tfrecord", [write(tmp_path / "a", [b"a"]), tmp_path / "x.tfrecord"])
    with piped(tmp_path / "x.png"):
        Preprocessing((4, 4, 3), (0.5,) * 3, (0.5,) * 3, None).resized([tmp_path / "x.png"])
    folder = make_folder(tmp_path / "folder")
    with piped(folder / "train/bee/003.jpg"):
        split = load("folder", dir=str(folder)).train
        for i in range(len(split)):
            split[i]


def test_a_reason_is_one_short_line():
    assert reason(ValueError("one\n  two")) == "one two"
    assert reason(KeyError()) == "KeyError"
    assert len(reason(ValueError("x" * 9999))) < 210
