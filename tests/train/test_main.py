"""main.py in real processes: results, files, resuming after signals, devices."""

import json
import signal
import time

import numpy as np
import pytest

from tests import runs, tiny_cifar
from tests.train.networks import SMALL


def test_result_files_and_records(unbroken):
    workdir, result, out = unbroken
    records = runs.records(workdir)
    test = [record for record in records if record["split"] == "test"]
    assert result["test_top1"] == test[-1]["top1"]
    assert result["best_test_top1"] == max(record["top1"] for record in test)
    assert result["test_loss"] == test[-1]["loss"]
    assert (result["epochs"], result["steps"]) == (2, runs.TOTAL_STEPS)
    assert result["workdir"] == str(workdir)
    assert result["seconds"] > 0

    assert [(r["epoch"], r["split"], r["step"]) for r in records] == [
        (1, "train", 11),
        (1, "test", 11),
        (2, "train", 22),
        (2, "test", 22),
    ]
    for record in records:
        assert 0 <= record["top1"] <= record["top5"] <= 1
        assert record["loss"] > 0
    for record in records[::2]:
        np.testing.assert_allclose(record["perturbation_norm"], 0.1, rtol=1e-4)
        assert 0.5 < record["cosine"] <= 1
    # Cosine over 22 steps: the rates of steps 10 and 21.
    rates = [0.025 * (1 + np.cos(np.pi * step / 22)) for step in (10, 21)]
    np.testing.assert_allclose([r["lr"] for r in records[::2]], rates, rtol=1e-5)

    config = json.loads((workdir / "config.json").read_text())
    assert (config["epochs"], config["method"]["name"]) == (2, "vasso")
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    for words in ("1 x cpu", "1,438 training", "346 parameters", "VaSSO (rho", "    2/2  "):
        assert words in out


def test_a_finished_run_says_so_and_does_nothing(unbroken):
    workdir, result, _ = unbroken
    before = (workdir / "metrics.jsonl").read_bytes()
    again, out = runs.run(workdir, *runs.SHORT)
    assert "has finished" in out
    assert again == result
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_other_settings_in_the_same_folder_are_refused(unbroken):
    workdir, *_ = unbroken
    status, _, err = runs.finish(runs.start(workdir, *runs.SHORT, "method.rho=0.07"))
    assert status == 2
    assert "method.rho=0.1 there, 0.07 here" in err


def assert_same_end(workdir, unbroken):
    assert runs.records(workdir) == runs.records(unbroken)
    ours, theirs = (runs.checkpoint(folder, runs.TOTAL_STEPS) for folder in (workdir, unbroken))
    assert ours.keys() == theirs.keys()
    assert any("direction" in name for name in ours)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def wait_for_checkpoint(workdir, process, after=0):
    while max(runs.steps_saved(workdir), default=0) <= after:
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_saves_and_goes_on_the_same(unbroken, tmp_path, number):
    process = runs.start(tmp_path, *runs.SHORT)
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(number)
    status, _, err = runs.finish(process)
    assert status == 128 + number
    assert "run the same command again" in err
    assert "Traceback" not in err
    runs.run(tmp_path, *runs.SHORT)
    assert_same_end(tmp_path, unbroken[0])


# One step per epoch, so that every step's loss is on record, and enough of them for a signal to
# arrive before the end. A small network and rho, as training multiplies rounding.
EVERY_STEP = (SMALL, "batch_size=1436", "epochs=20", "method.rho=0.05", "method.theta=0.9")


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one_device")
    runs.run(workdir, *EVERY_STEP)
    return runs.records(workdir)


def assert_same_losses(workdir, reference):
    for ours, theirs in zip(runs.records(workdir), reference, strict=True):
        for name in ("loss", "perturbation_norm", "cosine"):
            if name in theirs:
                np.testing.assert_allclose(ours[name], theirs[name], rtol=3e-6, err_msg=name)
        # At most one image on the edge between two classes.
        assert abs(ours["top1"] - theirs["top1"]) < 1.5 / 359


@pytest.mark.slow
def test_four_devices_give_the_losses_of_one(one_device, tmp_path):
    runs.run(tmp_path, *EVERY_STEP, devices=4)
    assert_same_losses(tmp_path, one_device)


@pytest.mark.slow
def test_two_processes_end_together_go_on_and_give_the_losses_of_one(one_device, tmp_path):
    first, second = runs.start_two(tmp_path, *EVERY_STEP)
    wait_for_checkpoint(tmp_path, first)
    second.kill()
    runs.finish(second)
    status, _, err = runs.finish(first, timeout=60)
    # JAX itself may be the first to notice.
    assert status in (75, -signal.SIGABRT)
    assert "another process of this run" in err or "another task died" in err

    processes = runs.start_two(tmp_path, *EVERY_STEP)
    wait_for_checkpoint(tmp_path, processes[0], after=max(runs.steps_saved(tmp_path)))
    for process in processes:
        process.send_signal(signal.SIGTERM)
    ends = [runs.finish(process) for process in processes]
    assert [status for status, _, _ in ends] == [128 + signal.SIGTERM] * 2, ends

    ends = [runs.finish(process) for process in runs.start_two(tmp_path, *EVERY_STEP)]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert "4 x cpu on 2 hosts" in ends[0][1]
    assert "resuming at step" in ends[0][1]
    assert_same_losses(tmp_path, one_device)


@pytest.mark.slow
def test_two_processes_both_end_when_the_first_cannot_be_set_up(tmp_path):
    occupied = tmp_path / "file"
    occupied.touch()
    ends = [runs.finish(process) for process in runs.start_two(occupied, *EVERY_STEP)]
    assert [status for status, _, _ in ends] == [2, 2]
    assert "cannot be written" in ends[0][2]
    assert "the first process could not set the run up" in ends[1][2]


@pytest.mark.slow
def test_cifar10_from_a_prepared_copy(tmp_path):
    tiny_cifar.prepare(tmp_path, train=20, test=7)
    result, out = runs.run(
        tmp_path / "run",
        f"data.dir={tmp_path}",
        SMALL,
        "batch_size=8",
        "epochs=1",
        config="cifar10_vasso",
    )
    assert result["steps"] == 2
    assert "20 training and 7 test images of 32x32x3" in out


@pytest.mark.slow
def test_interrupted_before_the_first_step(tmp_path):
    process = runs.start(tmp_path, *runs.SHORT)
    while not (tmp_path / "checkpoints").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    status, _, err = runs.finish(process)
    assert status == 128 + signal.SIGINT
    assert "Traceback" not in err


@pytest.mark.slow
def test_evaluation_now_and_then_and_always_at_the_end(tmp_path):
    runs.run(tmp_path, SMALL, "epochs=3", "eval_every_epochs=2")
    splits = [(record["epoch"], record["split"]) for record in runs.records(tmp_path)]
    assert splits == [(1, "train"), (2, "train"), (2, "test"), (3, "train"), (3, "test")]
