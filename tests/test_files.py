"""Files from outside that are no files: refused before they are opened, which might never end."""

import os
import socket

import pytest

from tests.data.image_files import make_folder
from tests.data.test_record_files import write
from tests.run_folder.measured import measurement
from tests.run_folder.written import DATA, SETTINGS, write_run
from vasso_jax.data import load
from vasso_jax.data.prepare.downloading import sha256_of
from vasso_jax.data.sources.record_files import open_records
from vasso_jax.files import open_file, read_file, reason
from vasso_jax.inference import Preprocessing, load_run
from vasso_jax.runs import RecordFile, RunFolder, add_measurement, read_run
from vasso_jax.train.checkpoints.reading import read as read_arrays
from vasso_jax.train.errors import DamagedCheckpoint, UsageError


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


def _resume(path):
    """What a run that goes on in a folder reads there."""
    folder = RunFolder(path)
    with folder.lock(print):
        folder.open_for(SETTINGS)
        folder.write_facts(SETTINGS, DATA)
        RecordFile(folder.metrics_path)


def _figures(path):
    raise OSError(read_run(path).unreadable)  # of a run that is compared without them


def _measure(path):
    add_measurement(RunFolder(path).sharpness_path, measurement())


@pytest.mark.parametrize(
    ("name", "readers"),
    [
        ("config.json", [read_run, load_run, _resume]),
        ("dataset.json", [read_run, load_run, _resume]),
        ("metrics.jsonl", [read_run, _resume]),
        ("sharpness.json", [_figures, _measure]),
        ("sharpness.json.lock", [_measure]),
        ("run.lock", [_resume]),
    ],
)
def test_no_reader_of_a_run_waits_for_a_named_pipe(tmp_path, name, readers):
    path = write_run(tmp_path / "run", 0.25, 0.5)
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    for read in readers:
        with pytest.raises((OSError, UsageError), match=f"{path / name} .*named pipe") as error:
            read(path)
        assert len(str(error.value).splitlines()) == 1


def test_a_named_pipe_in_a_checkpoint_is_damage(tmp_path):
    checkpoint = tmp_path / "3"
    (checkpoint / "state").mkdir(parents=True)
    os.mkfifo(checkpoint / "state/manifest.ocdbt")
    with pytest.raises(DamagedCheckpoint, match=r"manifest\.ocdbt .*is a named pipe"):
        read_arrays(checkpoint, lambda arrays: {}, together=False)
