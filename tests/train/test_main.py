"""main.py in real processes: results, files, resuming after any end, devices, refusals."""

import json
import random
import shutil
import signal
import time

import numpy as np
import pytest

from tests import runs, tiny_cifar

SHORT = ("epochs=2", "checkpoint_every_steps=3")
TOTAL_STEPS = 22


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A finished run of two epochs: (workdir, result, standard output)."""
    workdir = tmp_path_factory.mktemp("unbroken")
    return workdir, *runs.run(workdir, *SHORT)


def test_result_files_and_records(unbroken):
    workdir, result, out = unbroken
    records = runs.records(workdir)
    test = [record for record in records if record["split"] == "test"]
    assert result["test_top1"] == test[-1]["top1"]
    assert result["best_test_top1"] == max(record["top1"] for record in test)
    assert result["test_loss"] == test[-1]["loss"]
    assert (result["epochs"], result["steps"]) == (2, TOTAL_STEPS)
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
    assert (config["epochs"], config["optimizer"]) == (2, "vasso")
    assert (workdir / "curves.png").read_bytes().startswith(b"\x89PNG")
    for words in ("1 x cpu", "1,438 training", "77,562 parameters", "VaSSO (rho", "epoch 2/2"):
        assert words in out


def test_a_finished_run_says_so_and_does_nothing(unbroken):
    workdir, result, _ = unbroken
    before = (workdir / "metrics.jsonl").read_bytes()
    again, out = runs.run(workdir, *SHORT)
    assert "has finished" in out
    assert again == result
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_other_settings_in_the_same_folder_are_refused(unbroken):
    workdir, *_ = unbroken
    status, _, err = runs.finish(runs.start(workdir, *SHORT, "rho=0.07"))
    assert status == 2
    assert "rho=0.1 there, 0.07 here" in err


def assert_same_end(workdir, unbroken):
    assert runs.records(workdir) == runs.records(unbroken)
    ours, theirs = (runs.checkpoint(folder, TOTAL_STEPS) for folder in (workdir, unbroken))
    assert ours.keys() == theirs.keys()
    assert any("direction" in name for name in ours)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def steps_saved(workdir):
    return [int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()]


def test_killed_at_random_steps_and_resumed_is_bit_identical(unbroken, tmp_path):
    seed = random.randrange(1000)
    print("seed of the delays:", seed)
    delays = random.Random(seed)
    resumed_from = []
    for _ in range(3):
        process = runs.start(tmp_path, *SHORT)
        before = max(steps_saved(tmp_path), default=0)
        while max(steps_saved(tmp_path), default=0) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delays.uniform(0, 0.3))
        process.kill()
        _, out, _ = runs.finish(process)
        resumed_from += [line for line in out.splitlines() if "going on from step" in line]
    _, out = runs.run(tmp_path, *SHORT)
    assert resumed_from or "going on from step" in out
    assert_same_end(tmp_path, unbroken[0])


def wait_for_checkpoint(workdir, process):
    while not steps_saved(workdir):
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_saves_and_goes_on_the_same(unbroken, tmp_path, number):
    process = runs.start(tmp_path, *SHORT)
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(number)
    status, _, err = runs.finish(process)
    assert status == 128 + number
    assert "run the same command again" in err
    assert "Traceback" not in err
    runs.run(tmp_path, *SHORT)
    assert_same_end(tmp_path, unbroken[0])


# One step an epoch, so that every step's loss is on record, and few and mild ones: training
# multiplies rounding several times over at each step, the more so the larger rho.
EVERY_STEP = ("batch_size=1436", "epochs=4", "rho=0.05", "theta=0.9")


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one_device")
    runs.run(workdir, *EVERY_STEP)
    return runs.records(workdir)


def assert_same_losses(workdir, reference):
    for ours, theirs in zip(runs.records(workdir), reference, strict=True):
        for name in ("loss", "perturbation_norm", "cosine"):
            if name in theirs:
                np.testing.assert_allclose(ours[name], theirs[name], rtol=3e-5, err_msg=name)
        # At most one image on the edge between two classes.
        assert abs(ours["top1"] - theirs["top1"]) < 1.5 / 359


def test_four_devices_give_the_losses_of_one(one_device, tmp_path):
    runs.run(tmp_path, *EVERY_STEP, devices=4)
    assert_same_losses(tmp_path, one_device)


def start_two(workdir):
    """Two processes of two devices each, as Slurm would start them."""
    # JAX finds the coordinator in these variables.
    slurm = {
        "SLURM_JOB_ID": str(random.randrange(1, 4096)),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
    }
    return [
        runs.start(
            workdir,
            *EVERY_STEP,
            "distributed=True",
            devices=2,
            env=slurm | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)},
        )
        for i in range(2)
    ]


def test_two_processes_stop_together_go_on_and_give_the_losses_of_one(one_device, tmp_path):
    processes = start_two(tmp_path)
    wait_for_checkpoint(tmp_path, processes[0])
    for process in processes:
        process.send_signal(signal.SIGTERM)
    ends = [runs.finish(process) for process in processes]
    assert [status for status, _, _ in ends] == [128 + signal.SIGTERM] * 2, ends

    ends = [runs.finish(process) for process in start_two(tmp_path)]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert "4 x cpu on 2 hosts" in ends[0][1]
    assert "going on from step" in ends[0][1]
    assert_same_losses(tmp_path, one_device)


def test_two_processes_both_end_when_the_first_cannot_be_set_up(tmp_path):
    occupied = tmp_path / "file"
    occupied.touch()
    ends = [runs.finish(process) for process in start_two(occupied)]
    assert [status for status, _, _ in ends] == [2, 2]
    assert "cannot be written" in ends[0][2]
    assert "the first process could not set the run up" in ends[1][2]


def test_cifar10_from_a_prepared_copy(tmp_path):
    tiny_cifar.prepare(tmp_path, train=20, test=7)
    result, out = runs.run(
        tmp_path / "run",
        f"data_dir={tmp_path}",
        "model=wrn10_1",
        "batch_size=8",
        "epochs=1",
        config="cifar10_vasso",
    )
    assert result["steps"] == 2
    assert "20 training and 7 test images of 32x32x3" in out


def refused(process, *messages):
    """The process must end with status 2 and one message, that has all `messages`."""
    status, out, err = runs.finish(process)
    assert status == 2, err
    assert err.startswith("error: "), err
    for message in messages:
        assert message in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("config", "overrides", "messages"),
    [
        (
            "cifar10_vasso",
            ["data_dir=/nowhere"],
            ["/nowhere/cifar10", "tfds.builder('cifar10'", "digits_vasso"],
        ),
        ("digits_vasso", ["model=resnet81"], ["Did you mean resnet18"]),
        ("digits_vasso", ["dataset=digit"], ["Did you mean digits"]),
        ("digits_vasso", ["optimizer=vaso"], ["Did you mean vasso"]),
        ("digits_vasso", ["batch_size=129"], ["batch_size=129", "4 devices", "multiple of 4"]),
        ("digits_vasso", ["batch_size=2000"], ["exceeds the 1438 training images"]),
        ("digits_vasso", ["rho=-1"], ["rho must be", ">= 0"]),
        ("digits_vasso", ["theta=1.5"], ["theta must be", "[0.0, 1.0]"]),
        ("digits_vasso", ["dtype=float16"], ["float32, bfloat16"]),
        ("digits_vasso", ["thetta=1"], ["no field 'thetta'", "Did you mean theta"]),
        ("digits_vasso", ["optimizer.x=1"], ["no field 'optimizer.x'"]),
        ("digits_vasso", ["seed=-1"], ["seed must be"]),
        ("digits_vasso", ["split_seed=-1"], ["split_seed must be"]),
        ("digits_vasso", ["checkpoint_every_steps=-1"], ["checkpoint_every_steps must be"]),
        ("digits_vasso", ["cutout_probability=2"], ["cutout_probability must be"]),
        ("digits_vasso", ["wandb_project=x"], ["needs the package wandb"]),
        ("digits_vasso", ["distributed=True"], ["could not join a cluster"]),
        ("digits_vasso", ["epochs=x"], ["--config.epochs=x"]),
        ("nothing", [], ["configs/nothing.py"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_wrong_input_is_one_message_and_status_2(tmp_path, config, overrides, messages):
    began = time.monotonic()
    refused(runs.start(tmp_path / "run", *overrides, config=config, devices=4), *messages)
    assert time.monotonic() - began < 15
    assert not (tmp_path / "run/config.json").exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def get_config(: pass", "SyntaxError"),
        ("import nowhere", "nowhere"),
        ("x = 1", "get_config"),
        ("from ml_collections import ConfigDict as get_config", "the config lacks"),
    ],
)
def test_a_broken_config_file_is_one_message(tmp_path, code, message):
    (tmp_path / "broken.py").write_text(code)
    refused(runs.start(tmp_path / "run", config=tmp_path / "broken"), message)


def test_an_unwritable_workdir_is_one_message(tmp_path):
    occupied = tmp_path / "file"
    occupied.touch()
    refused(runs.start(occupied), "cannot be written")


def test_divergence_is_one_message_and_leaves_finite_checkpoints_only(tmp_path):
    options = ("lr=1e30", "batch_size=718", "checkpoint_every_steps=1", "epochs=4")
    refused(runs.start(tmp_path, *options), "the run diverged", "smaller lr")
    for step in steps_saved(tmp_path):
        assert all(np.isfinite(x).all() for x in runs.checkpoint(tmp_path, step).values())
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_a_disk_that_cannot_hold_a_checkpoint_is_one_message(tmp_path):
    # No file may grow beyond 100 kB.
    limited = ("bash", "-c", 'ulimit -f 100; exec "$@"', "bash")
    environment = {"JAX_ENABLE_COMPILATION_CACHE": "0"}
    process = runs.start(tmp_path, *SHORT, env=environment, prefix=limited)
    refused(process, "a checkpoint could not be written", "make room")


def test_damaged_run_folders_are_one_message(unbroken, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(unbroken[0], workdir)
    (workdir / "metrics.jsonl").unlink()
    refused(runs.start(workdir, *SHORT), "metrics.jsonl ends at epoch 0")
    shutil.copy(unbroken[0] / "metrics.jsonl", workdir)
    shutil.rmtree(workdir / "checkpoints")
    refused(runs.start(workdir, *SHORT, "rho=0.07"), "rho=0.1 there, 0.07 here")
    shutil.copytree(unbroken[0] / "checkpoints", workdir / "checkpoints", dirs_exist_ok=True)
    for path in (workdir / f"checkpoints/{TOTAL_STEPS}").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    refused(runs.start(workdir, *SHORT), "checkpoints", "cannot be")


def test_interrupted_before_the_first_step(tmp_path):
    process = runs.start(tmp_path, *SHORT)
    while not (tmp_path / "checkpoints").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    status, _, err = runs.finish(process)
    assert status == 128 + signal.SIGINT
    assert "Traceback" not in err


def test_evaluation_now_and_then_and_always_at_the_end(tmp_path):
    runs.run(tmp_path, "epochs=3", "eval_every_epochs=2")
    splits = [(record["epoch"], record["split"]) for record in runs.records(tmp_path)]
    assert splits == [(1, "train"), (2, "train"), (2, "test"), (3, "train"), (3, "test")]
