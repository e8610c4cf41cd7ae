"""CIFAR prepared from small archives in the official layout, over HTTP and after accidents."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from rich.console import Console
from tensorflow_datasets.image_classification import cifar

from tests.data.cifar_archives import NAMES, expect, make_archive
from vasso_jax.cli.prepare import main
from vasso_jax.data import load
from vasso_jax.data.prepare import preparation
from vasso_jax.data.prepare.downloading import sha256_of
from vasso_jax.data.prepare.preparation import PREPARABLE, prepare

GENUINE = {"cifar10": cifar.Cifar10, "cifar100": cifar.Cifar100}


def by_id(name, data_dir, split):
    """All examples as tensorflow-datasets reads them, in the order of their ids."""
    builder = tfds.builder_from_directory(data_dir / name / "3.0.2")
    return sorted(builder.as_data_source(split), key=lambda example: example["id"])


@pytest.mark.parametrize("name", PREPARABLE)
def test_the_copy_holds_what_the_archive_holds(name, server, tmp_path, monkeypatch, capsys):
    content = make_archive(name, tmp_path / "made")
    server.content = (tmp_path / "made").read_bytes()
    expect(monkeypatch, name, tmp_path / "made", server.url)
    root = tmp_path / "new/data"
    assert prepare(name, str(root)) == root / name / "3.0.2"
    for split, n in (("train", 10), ("test", 3)):
        examples = by_id(name, root, split)
        assert [e["id"].decode() for e in examples] == [f"{split}_{i:05d}" for i in range(n)]
        for key, expected in content[split].items():
            np.testing.assert_array_equal([e[key] for e in examples], expected)
    dataset = load(name, dir=str(root))
    assert dataset.train.images.shape == (10, 32, 32, 3)
    assert dataset.class_names == tuple(list(NAMES[name].values())[-1])
    genuine = GENUINE[name](data_dir=tmp_path / "none")
    info = tfds.builder_from_directory(root / name / "3.0.2").info
    assert repr(info.features) == repr(genuine.info.features)
    assert info.full_name == genuine.info.full_name
    assert info.supervised_keys == genuine.info.supervised_keys
    assert info.splits["train"].shard_lengths == [10]
    # Nothing but the copy, its lock and the archive is left; no bar is shown without a terminal.
    assert sorted(os.listdir(root / name)) == [".lock", "3.0.2"]
    assert len(os.listdir(root / "downloads")) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert not err
    assert prepare(name, str(root), console=Console(quiet=True)) == root / name / "3.0.2"
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", PREPARABLE)
def test_the_official_archives_are_those_of_tensorflow_datasets(name):
    archive = preparation._ARCHIVES[name]
    known = GENUINE[name].url_infos[archive.url]
    assert (known.size, known.checksum, known.filename) == (
        archive.size,
        archive.sha256,
        archive.file_name,
    )


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(served, tmp_path, ranges):
    half = len(served.content) // 2
    served.cut = half
    with pytest.raises(OSError, match=rf"the server stopped after {half:,} of(.|\n)*is kept"):
        prepare("cifar10", str(tmp_path))
    assert sorted(os.listdir(tmp_path / "downloads")) == ["cifar-10-binary.tar.gz.part"]
    served.cut, served.ranges = None, ranges
    prepare("cifar10", str(tmp_path))
    assert served.requests == [None, f"bytes={half}-"]
    assert sorted(os.listdir(tmp_path / "downloads")) == ["cifar-10-binary.tar.gz"]
    assert len(load("cifar10", dir=str(tmp_path)).train.images) == 10


def test_a_download_that_did_not_begin_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    make_archive("cifar10", tmp_path / "made")
    expect(monkeypatch, "cifar10", tmp_path / "made", "http://127.0.0.1:9/")  # nobody listens
    with pytest.raises(OSError, match="cannot download") as error:
        prepare("cifar10", str(tmp_path / "data"))
    assert "kept" not in str(error.value)
    assert os.listdir(tmp_path / "data/downloads") == []


def test_a_download_that_only_lacked_its_name_is_not_repeated(served, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/cifar-10-binary.tar.gz.part").write_bytes(served.content)
    prepare("cifar10", str(tmp_path))
    assert served.requests == []


def test_a_download_of_another_file_is_removed_and_reported(served, tmp_path):
    served.content = served.content[:-1] + b"?"
    with pytest.raises(OSError, match=r"another file(.|\n)*SHA-256(.|\n)*put it at"):
        prepare("cifar10", str(tmp_path))
    assert os.listdir(tmp_path / "downloads") == []
    served.content += b"?"
    with pytest.raises(OSError, match=r"a file of .* bytes, not"):
        prepare("cifar10", str(tmp_path))
    assert not list((tmp_path / "cifar10").glob("3*"))


def test_a_download_that_never_ends_is_stopped(served, tmp_path):
    served.endless = 0
    size = len(served.content)
    with pytest.raises(OSError, match=rf"longer than the {size:,} bytes.*\n.*put it at"):
        prepare("cifar10", str(tmp_path))
    # Nothing is kept if the first block was too long already.
    for part in (tmp_path / "downloads").iterdir():
        assert part.stat().st_size <= size


def test_a_download_that_hardly_moves_is_stopped(served, tmp_path, monkeypatch):
    monkeypatch.setattr("vasso_jax.data.prepare.downloading._MINUTE_SECONDS", 0.2)
    served.cut, served.endless = 1000, 0.05
    with pytest.raises(OSError, match=r"the server sent only [\d,]+ bytes a minute.*\n.*is kept"):
        prepare("cifar10", str(tmp_path))


@pytest.mark.parametrize("place", ["", "downloads"])
def test_an_archive_put_there_by_hand_is_used(served, tmp_path, place):
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "cifar-10-binary.tar.gz").write_bytes(served.content)
    prepare("cifar10", str(tmp_path))
    assert served.requests == []
    assert len(load("cifar10", dir=str(tmp_path)).test.images) == 3


def test_a_wrong_archive_put_there_by_hand_is_named_and_kept(served, tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(b"other")
    with pytest.raises(OSError, match=rf"{re.escape(str(path))} is damaged") as error:
        prepare("cifar10", str(tmp_path))
    assert sha256_of(path) in str(error.value)
    assert preparation._ARCHIVES["cifar10"].sha256 in str(error.value)
    assert path.read_bytes() == b"other"
    assert served.requests == []


def test_an_archive_that_lacks_a_file_is_reported(tmp_path, monkeypatch):
    path = tmp_path / "cifar-10-binary.tar.gz"
    make_archive("cifar10", path, without=["data_batch_3.bin"])
    expect(monkeypatch, "cifar10", path, "")
    with pytest.raises(ValueError, match=r"lacks data_batch_3\.bin"):
        prepare("cifar10", str(tmp_path))
    assert os.listdir(tmp_path / "cifar10") == [".lock"]


# The first image of a process told to hang takes for ever.
PREPARE = """
import json, pathlib, sys, time
import PIL.Image
from rich.console import Console
from vasso_jax.data.prepare.preparation import Archive, _prepare
if sys.argv[3] == "hang":
    PIL.Image.fromarray = lambda image: time.sleep(60)
_prepare("cifar10", pathlib.Path(sys.argv[1]), Archive(*json.loads(sys.argv[2])), Console())
print(json.dumps([name for name in sys.modules if name.startswith("tensorflow.")]))
"""


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_process_leaves_no_copy_and_another_waits_for_it(served, tmp_path):
    archive = json.dumps(preparation._ARCHIVES["cifar10"])
    staging = tmp_path / "cifar10/incomplete.vasso_jax"

    def start(how):
        command = [sys.executable, "-c", PREPARE, tmp_path, archive, how]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    with start("hang") as killed:
        wait_until(lambda: list(staging.glob("cifar10/incomplete*")))
        with start("") as waiting:
            assert waiting.stdout.readline().startswith("waiting for another process")
            with pytest.raises(FileNotFoundError):
                load("cifar10", dir=str(tmp_path))
            killed.send_signal(signal.SIGKILL)
            output, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0
    assert json.loads(output.splitlines()[-1]) == []  # no TensorFlow
    assert len(load("cifar10", dir=str(tmp_path)).train.images) == 10
    assert sorted(os.listdir(tmp_path / "cifar10")) == [".lock", "3.0.2"]


def test_a_copy_that_appears_meanwhile_counts_and_half_a_copy_is_refused(served, tmp_path):
    version_dir = tmp_path / "cifar10/3.0.2"
    version_dir.mkdir(parents=True)
    (version_dir / "cifar10-train.array_record-00000-of-00001").touch()
    with pytest.raises(OSError, match="no complete copy: delete it"):
        prepare("cifar10", str(tmp_path))

    class Watching(Console):
        """Plays a process of tensorflow-datasets, which takes no lock and is done first."""

        def print(self, text, **kwargs):
            if str(text).startswith("preparing"):
                version_dir.mkdir()
                (version_dir / "dataset_info.json").touch()

    (version_dir / "cifar10-train.array_record-00000-of-00001").unlink()
    version_dir.rmdir()
    assert prepare("cifar10", str(tmp_path), console=Watching()) == version_dir
    assert os.listdir(version_dir) == ["dataset_info.json"]


def test_the_command_ends_with_one_message(served, tmp_path, capsys):
    def fails(*argv):
        with pytest.raises(SystemExit) as stop:
            main([*argv])
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        return error

    there = f"--dir={tmp_path}"
    assert "Did you mean cifar10" in fails("cifar1", there)
    by_hand = f"put it at {tmp_path}/downloads/cifar-10-binary.tar.gz"
    missing = fails("cifar10", there, f"--url={served.url}/missing")
    assert "the server answers 404 Not Found" in missing
    assert by_hand in missing
    assert "unknown url type" in fails("cifar10", there, "--url=nonsense")
    assert "Not a directory" in fails("cifar10", f"--dir={tmp_path}/made/below")
    served.shutdown()
    served.server_close()
    refused = fails("cifar10", there)
    assert "Connection refused" in refused
    assert by_hand in refused
