"""Runs on images from disk, in real processes: resuming, several hosts, damaged images."""

import collections
import json
import signal
import time

import numpy as np
import pytest

from tests import runs
from tests.data.image_files import make_folder
from tests.train.networks import SMALL

pytestmark = pytest.mark.slow

# Epochs of 5 steps; the pixels are plain colours, and differ with class and image.
ALL_BUT_EPOCHS = (
    *("data.name=folder", "data.image_size=16", "augment.flip=True"),
    *(SMALL, "batch_size=8"),
)
SETTINGS = (*ALL_BUT_EPOCHS, "epochs=2")
# Long enough for a signal to arrive before the end.
LONG, STEPS = (*ALL_BUT_EPOCHS, "epochs=6"), 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("folder"), train=20, val=5)


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """A finished run."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, *runs.run(workdir, *LONG, f"data.dir={folder}")


def test_the_opening_and_the_folder_tell_the_data(whole):
    workdir, _, out = whole
    assert "folder, 40 training and 10 test images from disk, cropped to 16x16x3" in out
    facts = json.loads((workdir / "dataset.json").read_text())
    assert facts["class_names"] == ["ant", "bee"]
    assert facts["train_images"] == 40
    assert "label_noise" not in facts


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.weekly)])
def test_stopped_within_an_epoch_it_goes_on_to_the_same_end(whole, folder, tmp_path, workers):
    settings = (
        *LONG,
        f"data.dir={folder}",
        f"data.workers={workers}",
        "checkpoint_every_steps=2",
    )
    process = runs.start(tmp_path, *settings)
    while not runs.steps_saved(tmp_path):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    status, _, err = runs.finish(process)
    assert status == 128 + signal.SIGTERM
    assert "Traceback" not in err
    assert max(runs.steps_saved(tmp_path)) < STEPS
    _, out = runs.run(tmp_path, *settings)
    assert "resuming at step" in out
    assert runs.records(tmp_path) == runs.records(whole[0])
    ours, theirs = (runs.checkpoint(w, STEPS) for w in (tmp_path, whole[0]))
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def test_two_hosts_give_the_losses_of_one_and_count_every_test_image_once(whole, folder, tmp_path):
    processes = runs.start_two(tmp_path, *LONG, f"data.dir={folder}")
    ends = [runs.finish(process) for process in processes]
    assert [status for status, _, _ in ends] == [0, 0], ends
    ours, theirs = runs.records(tmp_path), runs.records(whole[0])
    # As in test_main.py: training multiplies rounding, and these are only the first epoch's.
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-4)
        assert round(a["top1"] * 10, 4) == round(b["top1"] * 10, 4)


def test_a_damaged_image_stops_the_run_or_is_counted(folder, tmp_path):
    damaged = make_folder(tmp_path / "data", train=20, val=5)
    (damaged / "train/ant/003.jpg").write_text("no image")
    (damaged / "val/bee/001.jpg").write_text("no image")
    settings = (*SETTINGS, f"data.dir={damaged}")
    status, _, err = runs.finish(runs.start(tmp_path / "stop", *settings))
    assert status == 2
    assert err.startswith(f"error: {damaged}/")
    assert "data.on_damaged=skip" in err
    assert "Traceback" not in err
    # The advice can be followed; nothing of the first epoch was kept.
    runs.run(tmp_path / "stop", *settings, "data.on_damaged=skip")
    skipped = collections.defaultdict(list)
    for record in runs.records(tmp_path / "stop"):
        skipped[record["split"]].append(record["skipped"])
    assert skipped == {"train": [1, 1], "test": [1, 1]}


def test_a_damaged_test_image_costs_no_epoch(folder, tmp_path):
    data = make_folder(tmp_path / "data", train=20, val=5)
    whole = (data / "val/bee/001.jpg").read_bytes()
    (data / "val/bee/001.jpg").write_bytes(whole[:200])
    settings = (*SETTINGS, f"data.dir={data}", "eval_every_epochs=2")
    status, _, err = runs.finish(runs.start(tmp_path / "run", *settings))
    assert status == 2
    assert "val/bee/001.jpg" in err
    assert runs.steps_saved(tmp_path / "run")[-1] == 10
    (data / "val/bee/001.jpg").write_bytes(whole)
    result, _ = runs.run(tmp_path / "run", *settings)
    splits = [(record["epoch"], record["split"]) for record in runs.records(tmp_path / "run")]
    assert splits == [(1, "train"), (2, "train"), (2, "test")]
    assert result["epochs"] == 2


def test_hosts_end_together_when_one_cannot_read_its_data(folder, tmp_path):
    other = make_folder(tmp_path / "other", train=10, val=5)
    for second, messages in (
        ("/nowhere", ["another process could not", "no class folders in /nowhere"]),
        (other, ["the hosts see different data sets"] * 2),
    ):
        began = time.monotonic()
        processes = runs.start_two(
            tmp_path / "run", *SETTINGS, each=([f"data.dir={folder}"], [f"data.dir={second}"])
        )
        ends = [runs.finish(process) for process in processes]
        assert [status for status, _, _ in ends] == [2, 2], ends
        for (_, _, err), message in zip(ends, messages, strict=True):
            assert message in err
        assert time.monotonic() - began < 60
